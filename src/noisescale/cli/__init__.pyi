from .entry import COMMANDS as COMMANDS
from .entry import main as main
