"""`python -m ssrl.extract` is ssrl-extract."""

from ssrl.commands.extract import main

if __name__ == "__main__":
    main()
