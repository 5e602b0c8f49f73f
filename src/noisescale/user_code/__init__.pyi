from .containment import CodeEnded as CodeEnded
from .containment import contained as contained
from .custom_modules import runs_user_code as runs_user_code
from .imports import import_named as import_named
from .imports import is_only_in_this_process as is_only_in_this_process
from .process_state import ProcessState as ProcessState
from .process_state import preserved_process as preserved_process
