# Sourced by the other scripts: a virtual environment with what is asked for, made once.
# shellcheck shell=sh

# The first Python from 3.10 to 3.13 that has venv; PYTHON names another.
find_python() {
    for candidate in ${PYTHON:-} python3.11 python3 python3.12 python3.13 python3.10; do
        if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' >/dev/null 2>&1; then
            echo "$candidate"
            return
        fi
    done
    echo "edgekit needs Python 3.10 to 3.13 with its venv module, and none was found." >&2
    echo "On Debian and Ubuntu: apt-get install python3-venv. Or set PYTHON to another Python." >&2
    return 1
}

# system_package FILE PACKAGE: installs the package where the file is missing and this user may; else says what to do, and the tests
# that need it skip with that reason.
system_package() {
    if [ -e "$1" ]; then
        return 0
    fi
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        echo "Installing $2 …" >&2
        apt-get update -qq >&2 || true
        if DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$2" >&2; then
            return 0
        fi
    fi
    echo "$1 is missing, and some tests need it: sudo apt-get install --no-install-recommends $2" >&2
}

# ensure FOLDER EXTRAS MODE: a virtual environment with edgekit and its extras.
# MODE editable: the tree itself. MODE wheel: a wheel built from the tree, installed anew at each call.
# What is there already is not fetched again, so that a second run needs no network.
ensure() {
    folder=$1 extras=$2 mode=$3
    wanted="$extras $(cksum <pyproject.toml)"
    if [ ! -x "$folder/bin/python" ]; then
        python=$(find_python)
        echo "Making $folder with $("$python" --version) …" >&2
        "$python" -m venv "$folder"
    fi
    if [ "$(cat "$folder/.edgekit-extras" 2>/dev/null)" != "$wanted" ]; then
        # What the tests need holds all that the demo needs.
        if [ "$extras" = demo ] && [ "$(cat "$folder/.edgekit-extras" 2>/dev/null)" = "demo,dev,torch $(cksum <pyproject.toml)" ]; then
            :
        else
            echo "Installing edgekit[$extras] and what it needs (minutes the first time) …" >&2
            "$folder/bin/python" -m pip install --quiet --disable-pip-version-check 'hatchling>=1.26' 'editables>=0.5'
            "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --no-build-isolation -e ".[$extras]"
            echo editable >"$folder/.edgekit-mode"
            echo "$wanted" >"$folder/.edgekit-extras"
        fi
    fi
    if [ "$mode" = wheel ]; then
        echo wheel >"$folder/.edgekit-mode"
        "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --force-reinstall .
    elif [ "$(cat "$folder/.edgekit-mode" 2>/dev/null)" != editable ]; then
        "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --force-reinstall -e .
        echo editable >"$folder/.edgekit-mode"
    fi
}

# device_environment FOLDER PYTHON EXTRA REQUIREMENT...: a virtual environment as a device has it: the wheel built from the
# tree with its base dependencies and one extra ("" for none), besides what the tests need. Fetched once, the wheel installed anew.
device_environment() {
    folder=$1 python=$2 extra=$3
    shift 3
    wanted="$extra $* $(cksum <pyproject.toml)"
    if [ ! -x "$folder/bin/python" ]; then
        "$python" -m venv "$folder" || return
    fi
    if [ "$(cat "$folder/.edgekit-extras" 2>/dev/null)" != "$wanted" ]; then
        echo "Installing edgekit${extra:+[$extra]} and what it needs into $folder …" >&2
        "$folder/bin/python" -m pip install --quiet --disable-pip-version-check 'hatchling>=1.26' 'editables>=0.5' "$@" || return
        "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --no-build-isolation ".${extra:+[$extra]}" || return
        echo "$wanted" >"$folder/.edgekit-extras"
    fi
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --force-reinstall .
}
