# make setup | demo | test.  Another Python: make setup PYTHON=python3.12.  Your own torch: make setup TORCH= (uses the one
# your Python already has, through --system-site-packages, and installs none).
PYTHON ?= python3
TORCH ?= torch==2.13.0
VENV ?= .venv
PLUGINS := $(sort $(dir $(wildcard plugins/*/pyproject.toml)))
BIN := $(VENV)/bin
export DS_BUILD_OPS := 0
export DS_ACCELERATOR ?= $(if $(TORCH),cpu,)
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: setup demo test clean

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt $(addsuffix pyproject.toml,$(PLUGINS))
	$(PYTHON) -m venv $(if $(TORCH),,--system-site-packages) $(VENV)
	$(if $(TORCH),$(PIP) -c constraints.txt "$(TORCH)" numpy,@echo "using this Python's own torch")
	$(if $(TORCH),cat constraints.txt,grep -v '^torch==' constraints.txt) > $(VENV)/constraints.txt
	$(PIP) -c $(VENV)/constraints.txt setuptools wheel
	$(PIP) -c $(VENV)/constraints.txt --no-build-isolation -e ".[test]" $(addprefix -e ./,$(PLUGINS))
	@# DeepSpeed compiles its CPU optimiser at first use (about two minutes): do it now, once
	-$(BIN)/python -c "from mgzoo.train import cpu_adam; cpu_adam.build_cpu_adam()" >/dev/null
	touch $@

demo: setup
	$(BIN)/python scripts/demo.py --out demo

test: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile -q

clean:
	rm -rf $(VENV) demo runs
