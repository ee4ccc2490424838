"""`python -m ssrl.train` is ssrl-train."""

from ssrl.commands.train import main

if __name__ == "__main__":
    main()
