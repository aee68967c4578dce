PYTHON ?= python3
ENV := .venv/installed
RUN := .venv/bin/python
TRAIN := $(RUN) tools/train_net.py --config-file configs/SyntheticSmall

export FASTREID_DATASETS ?= datasets

.PHONY: demo compare test lint

demo: $(ENV)
	$(RUN) tools/demo.py

# Every system of the paper on the small SyntheticPandas, with 3 of the 8 epochs; SEEDS and JOBS are yours to set.
SYSTEMS := fancl cluster_contrast spcl ice pplr jcl resnet18 densenet121 pcb
STARTS := pretrain pretrain_densenet121
SEEDS ?= 0
JOBS ?= 2

COMPARE := $(RUN) tools/compare.py --config-files $(SYSTEMS:%=configs/SyntheticSmall/%.yml) --seeds $(SEEDS) --jobs $(JOBS) \
	--output logs/SyntheticSmall/compare --set SOLVER.MAX_EPOCH 3 SOLVER.STEPS "[2]" PPLR.AALS_EPOCH 1
PICTURES := fana attention retrieval clusters

# The page is made anew with the pictures in it.
compare: $(STARTS:%=logs/SyntheticSmall/%/model_final.pth)
	-$(COMPARE)
	for kind in $(PICTURES); do \
		$(RUN) tools/visualize.py $$kind --run logs/SyntheticSmall/compare/fancl/seed_$(firstword $(SEEDS)) || exit; \
	done
	$(COMPARE) --report-only

logs/SyntheticSmall/%/model_final.pth: | $(ENV)
	$(TRAIN)/$*.yml --resume

test: $(ENV)
	.venv/bin/ruff check .
	$(RUN) -m pytest tests --numprocesses auto --maxprocesses 4 --dist loadfile

lint: $(ENV)
	.venv/bin/ruff check .

$(ENV): requirements.txt setup.py
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet --requirement requirements.txt
	.venv/bin/pip install --quiet --no-deps fastreid==1.4.0
	.venv/bin/pip install --quiet --no-deps --editable .
	touch $@
