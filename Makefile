PYTHON ?= python3
ENV := .venv/installed
RUN := .venv/bin/python
TRAIN := $(RUN) tools/train_net.py --config-file configs/SyntheticSmall

export FASTREID_DATASETS ?= datasets

.PHONY: demo test lint

demo: $(ENV)
	$(RUN) tools/demo.py

test: $(ENV)
	.venv/bin/ruff check .
	$(RUN) -m pytest tests

lint: $(ENV)
	.venv/bin/ruff check .

$(ENV): requirements.txt setup.py
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet --requirement requirements.txt
	.venv/bin/pip install --quiet --no-deps fastreid==1.4.0
	.venv/bin/pip install --quiet --no-deps --editable .
	touch $@
