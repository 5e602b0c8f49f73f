from .claims import claims_tables as claims_tables
from .claims import verdict_tables as verdict_tables
from .claims import write_verdicts as write_verdicts
from .measured import measured_tables as measured_tables
from .tables import fit_tables as fit_tables
from .tables import recommendation_tables as recommendation_tables
from .write import write_report as write_report
