"""What the process counts of itself, for Prometheus.

family       sums, gauges and histograms as plain numbers, so that counting costs next to nothing
metrics      all that are exported, with their names and labels
shared       the counts of several workers as one
exposition   the text that Prometheus reads
"""

from app.metrics.metrics import Metrics

__all__ = ["Metrics"]
