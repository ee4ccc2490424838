"""A camera, watched live.

source ── snippets ──▶ window ── scores ──▶ event tracker ── notices ──▶ sinks, a thread and a bounded queue each
   └──── packets of the last seconds ──▶ clips ─────────────────────────────┘
"""
