# Everything a newcomer needs: make demo, make test. The virtual environment is made on first use.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
STAMP = $(VENV)/.installed
CLIENTS ?= .clients
AGENTS = @anthropic-ai/claude-code@^2.1 @openai/codex@^0.171 opencode-ai@^1.18
# Virtual machines may show AMX and refuse it: llama.cpp compiled for the very processor then dies with SIGILL
PORTABLE = $(shell grep -qs amx_tile /proc/cpuinfo && echo -DGGML_NATIVE=OFF)

.PHONY: demo test attack browser test-npm test-clients test-open-webui servers check bench train picture format clean

$(STAMP): pyproject.toml setup.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	@echo "Installing (llama.cpp is compiled once, some minutes) ..."
	CMAKE_ARGS="$(PORTABLE) $$CMAKE_ARGS" $(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $(STAMP)

demo: $(STAMP)   ## tell a model something, start it anew, ask; MODEL= chooses another GGUF
	$(BIN)/membank demo $(if $(MODEL),--model '$(MODEL)') $(if $(ENCODER),--encoder '$(ENCODER)')

test: $(STAMP)   ## all tests
	@command -v chromium chromium-browser google-chrome >/dev/null || echo "skipped the page in a browser: there is no chromium here"
	$(BIN)/python -m pytest $(ARGS)

attack: $(STAMP)  ## the attacks that take longer than the tests may; half an hour on two cores
	$(BIN)/python -m pytest -m attack --timeout 1800 $(ARGS)

test-npm: $(STAMP)  ## clients from npm; says so where there is no npm
	@if command -v npm >/dev/null; then \
		npm install --prefix tests/npm --no-package-lock --no-audit --no-fund --silent && \
		$(BIN)/python -m pytest tests/npm; \
	else echo "skipped the clients from npm: there is no npm here"; fi

browser:  ## chromium for tests/server/page, where Debian's packages can be had; says where not
	@command -v chromium >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq && \
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null; } || \
		echo "without chromium: the page is not tested in a browser"

servers: $(STAMP)  ## llama.cpp's own llama-server for tests/servers, compiled once into ~/.cache/membank-servers
	$(BIN)/python tests/servers/build_llama_server.py

test-clients: $(STAMP)  ## other people's clients and coding agents, each installed under CLIENTS first; says what there is not
	$(PYTHON) -m venv $(CLIENTS)/light && $(CLIENTS)/light/bin/pip install --quiet -r tests/clients/requirements.txt
	-$(PYTHON) -m venv $(CLIENTS)/aider && $(CLIENTS)/aider/bin/pip install --quiet 'aider-chat>=0.86'
	@if command -v npm >/dev/null; then \
		npm install --prefix $(CLIENTS)/agents --no-audit --no-fund --silent $(AGENTS); \
	else echo "without the agents from npm: there is no npm here"; fi
	MEMBANK_CLIENTS=$(abspath $(CLIENTS)) $(BIN)/python -m pytest -rs tests/clients $(ARGS)

test-open-webui: $(STAMP)  ## Open WebUI as a client, in an environment of seven gigabytes
	$(PYTHON) -m venv $(CLIENTS)/webui && $(CLIENTS)/webui/bin/pip install --quiet 'open-webui>=0.12'
	MEMBANK_CLIENTS=$(abspath $(CLIENTS)) $(BIN)/python -m pytest -rs tests/clients/test_open_webui_chats.py $(ARGS)

check: $(STAMP)  ## style, types, floors
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_floors.py tests/test_project.py

bench: $(STAMP)  ## the figures of docs/benchmarks.md, small versions
	$(BIN)/python benchmarks/run.py

train: $(STAMP)  ## the embedded model from nothing: an hour or two on two cores; stop it and start it again at will
	$(BIN)/python -m pip install --quiet --editable '.[train]'
	$(BIN)/python models/train_recall_tiny.py
	$(BIN)/python models/eval_recall_tiny.py --record

picture: $(STAMP)  ## docs/demo.svg, from a real run
	$(BIN)/python docs/picture.py

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
