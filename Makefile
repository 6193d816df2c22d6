# Every target works as root, through sudo (sudo make TARGET), and with any CARGO_TARGET_DIR.

.PHONY: help demo demo-down test check accept lab-kvm bench fuzz release

help:
	@echo "make demo       build everything and boot a virtual machine with Terraform"
	@echo "make demo-down  remove all that the demonstration made"
	@echo "make test       run all tests; the last line counts them"
	@echo "make accept     run the acceptance stories only, the slow ones too"
	@echo "make lab-kvm    the agent on real KVM, in a machine under software emulation (no KVM needed)"
	@echo "make bench      measure the budgets, each beside its floor; writes docs/benchmarks.md"
	@echo "make fuzz       each fuzzer for ten minutes (WEFT_FUZZ_SECONDS)"
	@echo "make check      formatting, lints, documentation"
	@echo "make release    pack the provider as the registries want it, into dist/"

demo:
	@scripts/demo.sh

demo-down:
	@scripts/demo-down.sh

test:
	@scripts/test.sh

accept:
	@scripts/test.sh --stories

lab-kvm:
	@scripts/lab-kvm.sh

check:
	@scripts/check.sh

bench:
	@scripts/bench.sh

fuzz:
	@scripts/fuzz.sh

release:
	@scripts/release.sh
