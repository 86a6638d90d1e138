# make run   set up this machine, start the stack, run a first container
# make test  set up this machine, check the code, run the whole test suite
# make install, make uninstall   PREFIX=/usr/local DESTDIR=: files, units, manual, completions
# make deb   dist/dockyard_VERSION_ARCHITECTURE.deb, for Debian 12 and 13
# make crashes     kill -9, and a full disk, at each step of what changes the store
# make outliving   the long ordeal by chance: SEED=… to see one again, MINUTES=…, MEMBERS=… (containers), CYCLES=… (networks)

SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
PACKAGES := crun conmon nftables libnftables1 busybox-static iproute2 tini procps kmod util-linux ca-certificates python3 python3-venv
TEST_PACKAGES := runc docker-registry systemd dbus docker-compose
KERNEL_PACKAGES := user-mode-linux e2fsprogs
API := unix:///run/dockyard/docker.sock
DOCKER := DOCKER_HOST=$(API) docker

PREFIX := /usr/local
DESTDIR :=
LIBRARY = $(DESTDIR)$(PREFIX)/lib/dockyard

.PHONY: run test check golden outliving crashes bench conformance stop setup root install uninstall deb

run: setup
	@$(BIN)/dockyard job ping >/dev/null 2>&1 || $(BIN)/dockyard up --detach
	@$(BIN)/dockyard busybox
	@$(DOCKER) run --rm busybox echo "Hello from a container in dockyard."
	@printf '%s\n' '' 'The stack is up. Now type:' '' \
	  '  export DOCKER_HOST=$(API) PATH=$$PWD/$(BIN):$$PATH' \
	  '  docker run -it --rm busybox          # a shell in a container' \
	  '  dockyard ps                          # the processes behind it' \
	  '  dockyard jobs                        # what they did' \
	  '  make stop                            # stop the stack; containers live on' ''

test: setup check $(VENV)/test-packages
	$(BIN)/python -m pytest tests/unit
	$(BIN)/python -m pytest tests/contract
	$(BIN)/python -m pytest tests/integration
	$(BIN)/python -m pytest -rs -m "not long" tests/systemd

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

golden: setup
	UPDATE_GOLDEN=1 $(BIN)/python -m pytest tests/unit
	UPDATE_GOLDEN=1 $(BIN)/python -m pytest tests/contract

outliving: setup
	SEED=$(SEED) MINUTES=$(MINUTES) MEMBERS=$(MEMBERS) CYCLES=$(CYCLES) $(BIN)/python -m pytest --timeout=0 -s tests/outliving
	SEED=$(SEED) LEAK_ROUNDS=500 LEAK_STRIDE=3 $(BIN)/python -m pytest --timeout=0 -s tests/contract/test_never_leaks.py

crashes: setup
	CRASH_STRIDE=1 $(BIN)/python -m pytest --timeout=0 tests/contract/test_crashes.py

bench: setup
	@$(BIN)/dockyard job ping >/dev/null 2>&1 || $(BIN)/dockyard up --detach
	@$(BIN)/dockyard busybox
	$(BIN)/python -m tests.bench.start_path
	$(BIN)/python -m tests.bench.streams
	$(BIN)/python -m tests.bench.cold_start

conformance: setup
	@$(BIN)/python -m tests.conformance $(FILES)
	EXPLORE=1 EXAMPLES=$${EXAMPLES:-20} $(BIN)/python -m pytest --timeout=0 tests/integration/test_schemathesis.py
	@[ -n "$(FILES)" ] || EXPLORE=1 $(BIN)/python -m pytest tests/unit
	@[ -n "$(FILES)" ] || bash packaging/install.sh $(KERNEL_PACKAGES) || echo "no kernel to boot: no power is cut"
	@[ -n "$(FILES)" ] || $(BIN)/python -m pytest -rs -m long tests/systemd

# Enable it with: systemctl enable --now dockyard.socket dockyard.service
install: setup
	@mkdir -p $(LIBRARY)
	@python3 -m venv --clear $(LIBRARY)/venv
	@$(LIBRARY)/venv/bin/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock .
	@bash packaging/tree.sh "$(DESTDIR)" $(PREFIX) $(BIN)/dockyard
	@[ -n "$(DESTDIR)" ] || ! command -v systemd-sysusers >/dev/null || systemd-sysusers $(PREFIX)/lib/sysusers.d/dockyard.conf
	@[ -n "$(DESTDIR)" ] || [ ! -d /run/systemd/system ] || systemctl daemon-reload
	@echo "dockyard is installed in $(DESTDIR)$(PREFIX)"

uninstall:
	@bash packaging/uninstall.sh "$(DESTDIR)" $(PREFIX)

deb: setup
	@bash packaging/deb/build.sh $(CURDIR)/$(BIN)/python dist

stop:
	@$(BIN)/dockyard down

# Compiled once, also where PYTHONDONTWRITEBYTECODE is set: else each start of a stack would compile all it loads (1.5 s).
setup: root $(VENV)/packages $(VENV)/installed
	@$(BIN)/python -m compileall -q services shared

root:
	@[ "$$(id -u)" = 0 ] || { echo "dockyard needs root (containers do): run make as root"; exit 1; }

$(VENV)/packages: Makefile packaging/install.sh
	@bash packaging/install.sh $(PACKAGES)
	@mkdir -p $(VENV) && touch $@

$(VENV)/test-packages: Makefile packaging/install.sh
	@bash packaging/install.sh $(TEST_PACKAGES)
	@mkdir -p $(VENV) && touch $@

$(VENV)/bin/python:
	@python3 -m venv $(VENV)

$(VENV)/installed: requirements.lock pyproject.toml $(VENV)/bin/python
	@echo "installing Python packages into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@
