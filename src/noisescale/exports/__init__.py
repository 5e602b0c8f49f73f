"""A study in other tools' own formats, after the fact."""

from noisescale.exports.formats import FORMATS as FORMATS
from noisescale.exports.formats import export as export
