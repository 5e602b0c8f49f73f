from .containment import CodeEnded as CodeEnded
from .containment import contained as contained
from .imports import import_named as import_named
from .imports import is_only_in_this_process as is_only_in_this_process
