"""Statistics that a decision can rest on: paired, by group, never sure of what was not seen.

Leaf room: numbers in, numbers out; knows no case, no report, no gate. NumPy and SciPy are imported at the first call.
"""

from budwood.stats.bootstrap import Interval, paired_bootstrap
from budwood.stats.mcnemar import mcnemar_exact
from budwood.stats.rates import upper_rate, wilson_interval
from budwood.stats.sample_size import cases_to_settle

__all__ = ["Interval", "cases_to_settle", "mcnemar_exact", "paired_bootstrap", "upper_rate", "wilson_interval"]
