# Mailtier. `make help` says what there is.
#
# One static archive a room; a program or test links only the rooms it may use, so that a forbidden call is
# a link error. The rooms and what each may use stand in the table below, once; tests/layers.sh reads it too.
# Variants (VARIANT=release|asan|tsan|fuzz|coverage|faults) build in folders of their own below build/.

VARIANT ?= release
V ?= 0
CI ?=
ifeq ($(VARIANT),release)
B := build
else
B := build/$(VARIANT)
endif
BIN := $(B)/bin

.DEFAULT_GOAL := all
.SUFFIXES:
.DELETE_ON_ERROR:
Q := $(if $(filter 1,$(V)),,@)

# ---- the rooms: what each may use of ours (transitive), what it links of others ----
ROOMS := common/base common/crypto common/proto common/net common/conf common/directory common/auth common/control common/front common/spf \
	mapping proxy backend/store backend/store_work backend/search backend/delivery backend/session backend/admin backend
uses_common/base :=
uses_common/crypto := common/base
uses_common/proto := common/base
uses_common/net := common/base common/proto common/crypto
uses_common/conf := common/base
uses_common/directory := common/base common/net common/conf common/proto common/crypto
uses_common/auth := common/base common/crypto common/net common/conf common/proto common/directory
uses_common/control := common/base common/proto common/net common/conf
uses_common/front := common/base common/crypto common/proto common/net common/conf common/directory common/auth common/control
uses_common/spf := common/base common/proto
uses_mapping := common/base common/crypto common/proto common/net common/conf common/directory common/auth
uses_proxy := mapping common/base common/crypto common/proto common/net common/conf common/directory common/auth common/front common/control
uses_backend/store := common/base common/crypto common/proto
uses_backend/store_work := backend/store common/base common/net common/crypto common/proto
uses_backend/search := backend/store_work backend/store common/base common/net common/crypto common/proto
uses_backend/delivery := backend/store_work backend/store common/base common/crypto common/proto common/net common/conf
uses_backend/session := backend/delivery backend/search backend/store_work backend/store common/base common/crypto common/proto \
	common/net common/conf common/directory common/auth common/front common/control
uses_backend/admin := backend/session $(uses_backend/session)
uses_backend := backend/admin $(uses_backend/admin)
libs_common/base := -lxxhash
libs_common/crypto := -lcrypto
libs_common/proto := -lidn2 -lunistring
libs_common/net := -luv -lssl -lcrypto -lunbound -lz
libs_common/conf := -lconfuse
libs_common/directory := -lldap -llber -lgssapi_krb5
libs_common/auth := -lsasl2 -lcrypt -largon2 -lgssapi_krb5
libs_common/control := -ljansson
libs_common/front := -lpcre2-8 -lmaxminddb
libs_common/spf := -lspf2 -lseccomp
libs_mapping := -lpcre2-8
libs_backend/store := -llmdb -lzstd

# ---- compiler ----
CC := gcc
warn := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wswitch-enum -Wformat=2 -Wvla \
	-Wpointer-arith -Wwrite-strings $(if $(CI),-Werror)
cflags := -std=c11 -D_GNU_SOURCE -I. -g -fPIE -pthread $(warn)
ldflags := -pie -pthread
ifeq ($(VARIANT),release)
cflags += -O2 -fstack-protector-strong -D_FORTIFY_SOURCE=2 -fno-plt
ldflags += -Wl,-z,relro,-z,now
else ifeq ($(VARIANT),faults)
cflags += -O2 -fstack-protector-strong -DMAILTIER_FAULTS
else ifeq ($(VARIANT),asan)
cflags += -O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all
ldflags += -fsanitize=address,undefined
else ifeq ($(VARIANT),tsan)
cflags += -O1 -fno-omit-frame-pointer -fsanitize=thread
ldflags += -fsanitize=thread
else ifeq ($(VARIANT),coverage)
cflags += -O0 --coverage
ldflags += --coverage
else ifeq ($(VARIANT),fuzz)
CC := clang
cflags += -O1 -fno-omit-frame-pointer -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all
ldflags += -fsanitize=address,undefined
else
$(error VARIANT is one of release asan tsan coverage fuzz faults)
endif
cflags += $(CFLAGS)
ldflags += $(LDFLAGS)

# ---- sources: every .c of a room but the programs' mains ----
mains := proxy/main.c backend/main.c common/control/mailtierctl.c common/spf/main.c
room_src = $(filter-out $(mains),$(wildcard $(1)/*.c))
room_lib = $(B)/lib/lib$(subst /,_,$(1)).a
obj = $(patsubst %.c,$(B)/obj/%.o,$(1))
live_rooms := $(foreach r,$(ROOMS),$(if $(call room_src,$r),$r))
# Link line of a room: itself and what it may use, upper rooms before lower ones, then foreign libraries.
reverse = $(if $(1),$(call reverse,$(wordlist 2,$(words $(1)),$(1))) $(firstword $(1)))
link_rooms = $(filter $(1) $(uses_$(1)),$(call reverse,$(live_rooms)))
link_libs = $(sort $(foreach r,$(1) $(uses_$(1)),$(libs_$(r))))
link = $(foreach r,$(call link_rooms,$(1)),$(call room_lib,$r)) $(call link_libs,$(1))

.PHONY: all lib
programs := $(if $(wildcard proxy/main.c),$(BIN)/mailtier-proxy) $(if $(wildcard backend/main.c),$(BIN)/mailtier-backend) \
	$(if $(wildcard common/control/mailtierctl.c),$(BIN)/mailtierctl) \
	$(if $(wildcard common/spf/main.c),$(B)/libexec/mailtier-spf)
all: $(programs)
lib: $(foreach r,$(live_rooms),$(call room_lib,$r))

$(B)/obj/%.o: %.c
	@mkdir -p $(@D)
	@$(if $(filter 1,$(V)),,echo "  CC    $(if $(filter release,$(VARIANT)),,[$(VARIANT)] )$<")
	$(Q)$(CC) $(cflags) -MMD -MP -c $< -o $@

define room_rules
$(call room_lib,$(1)): $(call obj,$(call room_src,$(1)))
	@mkdir -p $$(@D)
	$(Q)rm -f $$@ && ar rcs $$@ $$^
lib-$(1): $(call room_lib,$(1))
endef
$(foreach r,$(live_rooms),$(eval $(call room_rules,$r)))

$(BIN)/mailtier-proxy: $(call obj,proxy/main.c) $(foreach r,$(call link_rooms,proxy),$(call room_lib,$r))
	@mkdir -p $(@D)
	$(Q)$(CC) $(call obj,proxy/main.c) $(call link,proxy) $(ldflags) -o $@
$(BIN)/mailtier-backend: $(call obj,backend/main.c) $(foreach r,$(call link_rooms,backend),$(call room_lib,$r))
	@mkdir -p $(@D)
	$(Q)$(CC) $(call obj,backend/main.c) $(call link,backend) $(ldflags) -o $@
$(BIN)/mailtierctl: $(call obj,common/control/mailtierctl.c) $(foreach r,$(call link_rooms,common/control),$(call room_lib,$r))
	@mkdir -p $(@D)
	$(Q)$(CC) $(call obj,common/control/mailtierctl.c) $(call link,common/control) $(ldflags) -o $@
# The checker of SPF records, which the programs start from ../libexec beside their own folder.
$(B)/libexec/mailtier-spf: $(call obj,common/spf/main.c) $(foreach r,$(call link_rooms,common/spf),$(call room_lib,$r))
	@mkdir -p $(@D)
	$(Q)$(CC) $(call obj,common/spf/main.c) $(call link,common/spf) $(ldflags) -o $@

# ---- unit tests: tests/unit/<room>/test_x.c links that room and what it may use, nothing else ----
unit_src := $(foreach r,$(live_rooms),$(wildcard tests/unit/$(r)/test_*.c))
unit_bin := $(patsubst tests/unit/%.c,$(B)/unit/%,$(unit_src))
define unit_rules
$(patsubst tests/unit/%.c,$(B)/unit/%,$(wildcard tests/unit/$(1)/test_*.c)): $(B)/unit/$(1)/%: $(B)/obj/tests/unit/$(1)/%.o $(foreach l,$(call link_rooms,$(1)),$(call room_lib,$l))
	@mkdir -p $$(@D)
	$$(Q)$$(CC) $$< $(call link,$(1)) -lcmocka $$(ldflags) -o $$@
endef
$(foreach r,$(live_rooms),$(eval $(call unit_rules,$r)))
# It runs the real checker.
$(B)/unit/common/front/test_spf: | $(B)/libexec/mailtier-spf
.PHONY: unit
unit: $(unit_bin)
	$(Q)tests/run-unit $(unit_bin)
# make unit-common/proto: the unit tests of one room
define unit_room
.PHONY: unit-$(1)
unit-$(1): $(filter $(B)/unit/$(1)/test_%,$(patsubst tests/unit/%.c,$(B)/unit/%,$(wildcard tests/unit/$(1)/test_*.c)))
	$(Q)tests/run-unit $$^
endef
$(foreach r,$(live_rooms),$(eval $(call unit_room,$r)))

# ---- measuring programs of one room: tests/bench/<room>/bench_x.c, built as $(B)/bench/<room>/bench_x ----
define bench_rules
$(patsubst tests/bench/%.c,$(B)/bench/%,$(wildcard tests/bench/$(1)/bench_*.c)): $(B)/bench/$(1)/%: $(B)/obj/tests/bench/$(1)/%.o $(foreach l,$(call link_rooms,$(1)),$(call room_lib,$l))
	@mkdir -p $$(@D)
	$$(Q)$$(CC) $$< $(call link,$(1)) -lcmocka $$(ldflags) -o $$@
endef
$(foreach r,$(live_rooms),$(eval $(call bench_rules,$r)))

# ---- fuzz drivers: tests/fuzz/<room>/fuzz_x.c, corpus in tests/fuzz/corpus/x, dictionary x.dict beside the driver ----
fuzz_src := $(foreach r,$(live_rooms),$(wildcard tests/fuzz/$(r)/fuzz_*.c))
fuzz_bin := $(patsubst tests/fuzz/%.c,$(B)/fuzz/%,$(fuzz_src))
replay_main := $(if $(filter fuzz,$(VARIANT)),,$(B)/obj/tests/fuzz/replay.o)
# The fuzzer brings its main: for the drivers alone, since programs have one.
fuzz_ldflags := $(if $(filter fuzz,$(VARIANT)),-fsanitize=fuzzer)
# A driver's one function is called by name only, and has no header.
$(B)/obj/tests/fuzz/%.o: cflags += -Wno-missing-prototypes
define fuzz_rules
$(patsubst tests/fuzz/%.c,$(B)/fuzz/%,$(wildcard tests/fuzz/$(1)/fuzz_*.c)): $(B)/fuzz/$(1)/%: $(B)/obj/tests/fuzz/$(1)/%.o $(replay_main) $(foreach l,$(call link_rooms,$(1)),$(call room_lib,$l))
	@mkdir -p $$(@D)
	$$(Q)$$(CC) $$< $(replay_main) $(call link,$(1)) $$(ldflags) $(fuzz_ldflags) -o $$@
endef
$(foreach r,$(live_rooms),$(eval $(call fuzz_rules,$r)))
.PHONY: fuzz-replay fuzz fuzz-all
# Outside the fuzz variant the drivers have a plain main that replays their corpus.
fuzz-replay: $(fuzz_bin)
	$(Q)tests/fuzz/replay-all $(fuzz_bin)
# make fuzz F=imap_parse T=60
F ?=
T ?= 60
ifeq ($(F),)
fuzz: fuzz-all
else
fuzz:
	$(Q)driver="$(filter %/fuzz_$(F),$(patsubst tests/fuzz/%.c,build/fuzz/fuzz/%,$(fuzz_src)))"; \
		[ -n "$$driver" ] || { echo "fuzz: there is no driver fuzz_$(F)" >&2; exit 64; }; \
		$(MAKE) --no-print-directory VARIANT=fuzz $$driver
	$(Q)tests/fuzz/run $(F) $(T)
endif
# Every driver for T seconds each; make fuzz without F is the same.
fuzz-all:
	$(Q)for f in $(patsubst fuzz_%,%,$(basename $(notdir $(fuzz_src)))); do $(MAKE) --no-print-directory fuzz F=$$f T=$(T) || exit 1; done

# ---- programs of the crash tests and benchmarks of the store: linked as a test of store_work ----
preloads := record nospace
store_tools := $(patsubst %.c,$(B)/%,$(wildcard tests/crash/*.c tests/bench/store_*.c))
$(filter-out %.so,$(filter-out $(preloads:%=$(B)/tests/crash/%),$(store_tools))): $(B)/%: $(B)/obj/%.o $(foreach l,$(call link_rooms,backend/store_work),$(call room_lib,$l))
	@mkdir -p $(@D)
	$(Q)$(CC) $< $(call link,backend/store_work) $(ldflags) -o $@
# What is preloaded is no program: the recorder of writes and syncs, the disk that is full.
$(B)/tests/crash/%.so: tests/crash/%.c
	@mkdir -p $(@D)
	$(Q)$(CC) -std=c11 -D_GNU_SOURCE -I. -g -O2 $(warn) -fPIC -shared $< -ldl -o $@
.PHONY: store-tools
store-tools: $(filter-out $(preloads:%=$(B)/tests/crash/%),$(store_tools)) $(preloads:%=$(B)/tests/crash/%.so)

.PHONY: scale bench-disk
scale: ## a mailbox of a million messages, 10,000 mailboxes, 100,000 accounts: what must not grow does not (2 GB of disk, some minutes)
	$(Q)$(MAKE) --no-print-directory all store-tools
	$(Q)tests/bench/scale
bench-disk: ## disk bytes per message byte; F='FILES': of your own messages too
	$(Q)$(MAKE) --no-print-directory store-tools
	$(Q)d=$$(mktemp -d) && $(B)/tests/bench/store_disk $$d $(F); rmdir $$d 2>/dev/null || true

# ---- headers compile alone ----
header_objs := $(patsubst %.h,$(B)/headers/%.ok,$(foreach r,$(live_rooms),$(wildcard $(r)/*.h)))
$(B)/headers/%.ok: %.h
	@mkdir -p $(@D)
	$(Q)echo '#include "$<"' | $(CC) $(cflags) -fsyntax-only -x c - && touch $@
.PHONY: headers
headers: $(header_objs)

# ---- what people call ----
.PHONY: run check test test-directory crash crash-queue bench-queue bench bench-map bench-directory bench-import format format-check tidy coverage compdb install deb help clean deps
run: ## install what is missing, build, run the demo cluster in the foreground
	$(Q)deploy/install-deps build
	$(Q)$(MAKE) --no-print-directory all
	$(Q)deploy/demo/run --explain
check: ## the quick tests: rooms, headers, unit tests, fuzz corpora, documentation
	$(Q)tests/check
test: ## install what is missing, build, run every test
	$(Q)deploy/install-deps test
	$(Q)tests/all
test-directory: ## the flow tests with OpenLDAP and a Samba domain controller (root), which are part of `make test` too
	$(Q)deploy/install-deps test
	$(Q)$(MAKE) --no-print-directory all
	$(Q)tests/flow/run directory
crash: ## kill -9, disk full and power loss, longer than in make test
	$(Q)tests/crash/run --long
bench-queue: all ## how fast mail gets into the queue and out of it, beside Postfix; 10,000 messages to 100 destinations, one of them dead
	$(Q)tests/bench/queue_drain && tests/bench/queue_drain --dead --messages 10000
crash-queue: all ## kill -9 fifty times while the queue drains into a recording sink
	$(Q)MAILTIER_QUEUE_KILLS=50 python3 -W ignore tests/crash/test_queue_kill.py -v
soak-storm: all ## kill -9 amid all that changes quotas, five minutes; no counter may drift
	$(Q)MAILTIER_SECONDS=300 python3 -W ignore tests/crash/test_storm.py -v
soak-imap: all ## fifty sessions on one mailbox against a model, ten minutes or so
	$(Q)MAILTIER_ROUNDS=60 MAILTIER_PHASES=5 tests/flow/run -v crowd
imaptest: all ## imaptest against a back-end and a proxy, where tests/imaptest/build has made it
	$(Q)tests/imaptest/run
testssl: all ## testssl.sh against every TLS listener; fifteen minutes
	$(Q)tests/testssl
bench-map: ## figures of file maps, of cached credentials and of SASL sessions
	$(Q)$(MAKE) --no-print-directory $(B)/bench/map_file
	$(Q)$(B)/bench/map_file
$(B)/bench/map_file: $(B)/obj/tests/bench/map_file.o $(foreach l,$(call link_rooms,mapping),$(call room_lib,$l))
	@mkdir -p $(@D)
	$(Q)$(CC) $< $(call link,mapping) $(ldflags) -o $@
bench-directory: ## figures of LDAP maps, beside a plain loop over libldap
	$(Q)$(MAKE) --no-print-directory $(B)/bench/map_ldap
	$(Q)$(B)/bench/map_ldap
$(B)/bench/map_ldap: $(B)/obj/tests/bench/map_ldap.o $(foreach l,$(call link_rooms,mapping),$(call room_lib,$l))
	@mkdir -p $(@D)
	$(Q)$(CC) $< $(call link,mapping) $(ldflags) -o $@
.PHONY: mime-compare
mime-compare: all ## DIR=FOLDER: ENVELOPE and BODYSTRUCTURE of its messages beside Dovecot's
	$(Q)python3 tests/flow/mime_compare.py $(V:1=-v) $(DIR)
bench-import: all ## figures of `account import`: 100,000 accounts from a file
	$(Q)tests/bench/import.py
bench: ## figures, with the peers beside them where they are installed
	$(Q)tests/bench/run
format: ## clang-format over everything
	$(Q)git ls-files '*.c' '*.h' | xargs clang-format -i
format-check:
	$(Q)git ls-files '*.c' '*.h' | xargs clang-format --dry-run -Werror
tidy: compdb ## clang-tidy over everything
	$(Q)clang-tidy -p . --quiet $(foreach r,$(live_rooms),$(call room_src,$r))
coverage: ## line coverage of the unit tests and fuzz corpora
	$(Q)$(MAKE) --no-print-directory VARIANT=coverage unit fuzz-replay
	$(Q)tests/coverage build/coverage
compdb: ## compile_commands.json
	$(Q)tests/compdb '$(CC) $(cflags)' $(foreach r,$(live_rooms),$(call room_src,$r)) > compile_commands.json
clean: ## remove everything built
	rm -rf build compile_commands.json
prefix ?= /usr
install: all ## install below DESTDIR
	$(Q)deploy/install '$(DESTDIR)' '$(prefix)' '$(BIN)'
deb: ## a Debian package in build/
	$(Q)deploy/debian/build
help: ## this text
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14
	@echo 'make fuzz F=imap_parse T=60   one fuzzer for 60 seconds; make fuzz-all T=180: each'
	@echo 'make unit-common/proto        the unit tests of one room'
	@echo 'VARIANT=asan|tsan|coverage|fuzz|faults builds in build/VARIANT; V=1 shows the commands'

# Prints the table of rooms for tests/layers.sh: "room: may use".
.PHONY: print-rooms print-unit print-fuzz
print-rooms:
	@$(foreach r,$(ROOMS),echo '$r: $(uses_$(r))';)
print-unit:
	@echo $(unit_bin)
print-fuzz:
	@echo $(fuzz_bin)

-include $(shell find $(B)/obj -name '*.d' 2>/dev/null)
