"""A study in other tools' own formats, after the fact."""

from noisescale.exports.table import FORMATS as FORMATS
from noisescale.exports.table import export as export
