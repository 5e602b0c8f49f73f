"""How width enters: tables over an unmodified module."""

from noisescale.parameterizations.fan_in import Parameter as Parameter
from noisescale.parameterizations.fan_in import describe_parameters as describe_parameters
from noisescale.parameterizations.fan_in import read_out as read_out
from noisescale.parameterizations.groups import ParameterGroups as ParameterGroups
from noisescale.parameterizations.groups import parameterize as parameterize
from noisescale.parameterizations.initialize import initial_parameters as initial_parameters
from noisescale.parameterizations.initialize import initial_std as initial_std
from noisescale.parameterizations.initialize import stream as stream
from noisescale.parameterizations.initialize import stream_number as stream_number
from noisescale.parameterizations.query_rows import check_query_rows as check_query_rows
from noisescale.parameterizations.tables import PARAMETERIZATIONS as PARAMETERIZATIONS
from noisescale.parameterizations.tables import WITH_BASE_WIDTH as WITH_BASE_WIDTH
from noisescale.parameterizations.tables import WITH_QUERY_ROWS as WITH_QUERY_ROWS
from noisescale.parameterizations.tables import Row as Row
from noisescale.parameterizations.tables import Table as Table
from noisescale.parameterizations.tables import build_table as build_table
