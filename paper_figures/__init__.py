"""The seven figures of the paper, regenerated: ``python -m paper_figures [1-7 ...]``.

One module per figure, each with ``compute(run)``, which returns the data, and ``draw(data)``, which returns a
matplotlib figure.
"""
