"""What was found, for people: tables for the terminal, figures, and one self-contained page."""

from noisescale.report.claims import claims_tables as claims_tables
from noisescale.report.claims import verdict_tables as verdict_tables
from noisescale.report.claims import write_verdicts as write_verdicts
from noisescale.report.measured import measured_tables as measured_tables
from noisescale.report.tables import fit_tables as fit_tables
from noisescale.report.tables import recommendation_tables as recommendation_tables
from noisescale.report.write import write_report as write_report
