"""What operators see of calls: counts, log lines, gauges, notices."""
