PYTHON ?= python3
ENV := .venv/installed
RUN := .venv/bin/python
TRAIN := $(RUN) tools/train_net.py --config-file configs/SyntheticSmall

export FASTREID_DATASETS ?= datasets

.PHONY: demo individuals compare benchmarks gpu-pack test lint docs

demo: $(ENV)
	$(RUN) tools/demo.py

# discover on synthetic animals, then a scripted reviewer who answers by the true names: decisions, ARI and animals found.
ANIMALS ?= SyntheticTiny
DECISIONS ?= 30
INDIVIDUALS := logs/individuals/$(ANIMALS)

individuals: $(ENV)
	$(RUN) -c "from fastreid_fancl.data.synthetic import build; build('$(ANIMALS)', '$(FASTREID_DATASETS)', 1)"
	rm -rf $(INDIVIDUALS)
	OMP_NUM_THREADS=1 $(RUN) benchmarks/reviewer.py $(FASTREID_DATASETS)/$(ANIMALS) --order queue --decisions $(DECISIONS) \
		--output $(INDIVIDUALS)

# Every system of the paper on the small SyntheticPandas, with 3 of the 8 epochs; SEEDS and JOBS are yours to set.
SYSTEMS := fancl cluster_contrast spcl ice pplr jcl resnet18 densenet121 pcb
STARTS := pretrain pretrain_densenet121
SEEDS ?= 0
JOBS ?= 2

COMPARE := $(RUN) tools/compare.py --config-files $(SYSTEMS:%=configs/SyntheticSmall/%.yml) --seeds $(SEEDS) --jobs $(JOBS) \
	--output logs/SyntheticSmall/compare --set SOLVER.MAX_EPOCH 3 SOLVER.STEPS "[2]" PPLR.AALS_EPOCH 1
PICTURES := fana attention retrieval clusters

# The page is written again, with the pictures in it.
compare: $(STARTS:%=logs/SyntheticSmall/%/model_final.pth)
	-$(COMPARE)
	for kind in $(PICTURES); do \
		$(RUN) tools/visualize.py $$kind --run logs/SyntheticSmall/compare/fancl/seed_$(firstword $(SEEDS)) || exit; \
	done
	$(COMPARE) --report-only

logs/SyntheticSmall/%/model_final.pth: | $(ENV)
	$(TRAIN)/$*.yml --resume

# About an hour on two idle cores, to logs/benchmarks; a table of its own is one of these lines.
BENCHMARKS := logs/benchmarks
FOUND := logs/SyntheticSmall/fancl_0
PLANNED := fancl cluster_contrast resnet18

benchmarks: demo
	$(RUN) benchmarks/clustering.py --rows 12936 32621 --output $(BENCHMARKS)/clustering
	$(RUN) benchmarks/clustering.py --rows 10000 30000 100000 300000 1000000 --dimensions 256 --only "this package" --turns 1 \
		--output $(BENCHMARKS)/clustering_scale
	$(RUN) benchmarks/eps.py --seeds 0 1 2 3 4 5 6 7 8 --runs $(FOUND) --output $(BENCHMARKS)/eps
	$(RUN) benchmarks/phases.py $(FOUND) --output $(BENCHMARKS)/phases
	$(RUN) benchmarks/extraction.py --threads 1 2 --output $(BENCHMARKS)/extraction
	OMP_NUM_THREADS=1 $(RUN) benchmarks/step.py --output $(BENCHMARKS)/step
	OMP_NUM_THREADS=1 $(RUN) benchmarks/training.py --clock cpu --turns 3 --output $(BENCHMARKS)/training
	OMP_NUM_THREADS=1 $(RUN) benchmarks/plan.py --configs $(PLANNED:%=configs/SyntheticSmall/%.yml) --output $(BENCHMARKS)/plan

# The folder .gpu measures on a machine with a GPU: .gpu/run.sh --minutes 10 --output OUTPUT (docs/gpu.md).
gpu-pack: $(ENV)
	$(RUN) benchmarks/gpu_pack.py .gpu

test: lint
	$(RUN) -m pytest tests --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder --max-worker-restart 0

lint: $(ENV)
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/lint-imports
	.venv/bin/mypy
	.venv/bin/codespell

# The site, to site/index.html.
docs: .venv/docs
	NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --strict

.venv/docs: requirements-docs.txt | $(ENV)
	.venv/bin/pip install --quiet --requirement requirements-docs.txt
	touch $@

$(ENV): requirements.txt pyproject.toml
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet --requirement requirements.txt
	.venv/bin/pip install --quiet --no-deps fastreid==1.4.0
	.venv/bin/pip install --quiet --no-deps --editable .
	touch $@
