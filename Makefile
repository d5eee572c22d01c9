# Every target sets up what it needs in .venv first: Python 3.11 or newer and a package index are enough.
# Arguments pass on:  make demo ARGS="--subscribers 2000 --exit --json"

.DEFAULT_GOAL := help
.PHONY: help demo up test check chaos bench clean

ARGS ?=
BIN := .venv/bin
READY := .venv/.ready-to-run
READY_TO_TEST := .venv/.ready-to-test

help:
	@awk 'BEGIN { FS = ":.*## " } /^##@ / { printf "\n%s\n", substr($$0, 5) } /^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@printf '\nArguments pass on:  make demo ARGS="--subscribers 2000 --exit --json"\n'

##@ Use it
demo: $(READY) ## One story, 500 readers, one update, watched to the last acceptance
	@$(BIN)/dispatcher demo $(ARGS)

up: $(READY) ## Everything on this machine, until Ctrl-C
	@$(BIN)/dispatcher up $(ARGS)


##@ Work on it
# Where nothing may be kept of what was compiled, each process compiles all tests and programs again.
test: $(READY_TO_TEST) ## The tests, three at a time
	@env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest -n 3 --dist worksteal $(ARGS)

chaos: $(READY_TO_TEST) ## The long tests that kill, cut off and flush real processes; prints seeds and figures
	@DISPATCHER_CHAOS=long $(BIN)/python -m pytest -m chaos -s --timeout 1800 $(ARGS)

bench: $(READY_TO_TEST) ## The figures, each beside its rival in the same run
	@$(BIN)/python -m tests.benchmarks $(ARGS)

check: $(READY_TO_TEST) ## Style, types, import rule, templates, compose file, lock file
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy --strict
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/python -m dispatcher.rendering --lint
	@$(BIN)/djlint --quiet --lint templates/web
	@$(BIN)/uv lock --check
	@$(check_compose)

clean: ## Remove the virtual environment and all caches
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The virtual environment. Whatever the installers say goes to standard error: standard output belongs to the program.
$(READY): pyproject.toml uv.lock
	@{ $(set_up); install_with "" ""; } >&2
	@touch $@

$(READY_TO_TEST): pyproject.toml uv.lock
	@{ $(set_up); install_with "--extra test --extra check" "[test,check]"; } >&2
	@touch $(READY) $@

# Prefer uv with the lock file; without it venv and pip, and pip from outside where Debian keeps ensurepip away.
define set_up
set -eu; \
uv_works() { command -v uv >/dev/null 2>&1 && uv --version >/dev/null 2>&1; }; \
find_python() { \
  for name in python3 python3.14 python3.13 python3.12 python3.11; do \
    if "$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then echo "$$name"; return; fi; \
  done; \
  echo 'Python 3.11 or newer is needed, and was not found.' >&2; \
  echo 'On Debian or Ubuntu: apt install python3 python3-venv. Or install uv, which brings Python along.' >&2; \
  return 1; \
}; \
make_venv() { \
  if .venv/bin/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then return; fi; \
  rm -rf .venv; \
  python=$$(find_python); \
  echo "Setting up .venv with $$($$python --version) …"; \
  if "$$python" -c 'import ensurepip' >/dev/null 2>&1 && "$$python" -m venv .venv; then return; fi; \
  rm -rf .venv; \
  if "$$python" -m pip --version >/dev/null 2>&1 && "$$python" -m venv --without-pip .venv; then return; fi; \
  rm -rf .venv; \
  echo "$$python cannot make virtual environments here: its module ensurepip is missing."; \
  echo 'On Debian or Ubuntu: apt install python3-venv. Or install uv: https://docs.astral.sh/uv/'; \
  return 1; \
}; \
run_pip() { \
  if .venv/bin/python -m pip --version >/dev/null 2>&1; then \
    .venv/bin/python -m pip --disable-pip-version-check "$$@"; \
  else \
    "$$(find_python)" -m pip --disable-pip-version-check --python .venv/bin/python "$$@"; \
  fi; \
}; \
install_with() { \
  if uv_works; then \
    env -u VIRTUAL_ENV UV_PROJECT_ENVIRONMENT=.venv uv sync --quiet --locked --inexact --compile-bytecode $$1; \
  else \
    make_venv; \
    echo 'Installing what Dispatcher needs …'; \
    run_pip install --quiet --editable ".$$2"; \
  fi; \
}
endef

define check_compose
compose=; \
if docker compose version >/dev/null 2>&1; then compose='docker compose'; \
elif docker-compose version >/dev/null 2>&1; then compose=docker-compose; fi; \
if [ -n "$$compose" ]; then \
  DISPATCHER_SECRET_KEY=for-the-check DISPATCHER_DATABASE_PASSWORD=for-the-check \
  DISPATCHER_PUBLIC_URL=https://alerts.example.org DISPATCHER_MAIL_FROM=alerts@example.org \
    $$compose config --quiet && echo 'docker-compose.yml is well formed.'; \
else \
  echo 'docker compose is not here: only the tests look at docker-compose.yml.' >&2; \
fi
endef
