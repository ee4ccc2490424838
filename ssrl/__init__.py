"""Weakly supervised video anomaly detection with SSRL (Li et al., ECCV 2022).

video ──extract──▶ store ──train──▶ best.pt ──evaluate──▶ AUC, report, heatmaps
"""
