# What CI runs, cheapest first.
check: format lint doc test examples

# Is everything formatted?
format:
    cargo fmt --all --check

# Warnings are errors.
lint:
    cargo clippy --release --workspace --all-targets -- -D warnings

# Documentation, with its links.
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --release --workspace --no-deps

# The same command as in the README.
test:
    cargo test --release --workspace

# Every example runs to its end.
examples:
    for example in embed swap custom_drafter custom_rule perplexity structured trees; do cargo run --release --quiet --example $example || exit 1; done

# The page of `inspect` in a browser (needs Chromium). A package of its own, so that its dependencies leave those of
# the workspace alone.
browser:
    cargo build --release
    DRAFTHORSE_BIN=$PWD/target/release/drafthorse cargo test --manifest-path tests/browser/Cargo.toml

# Licences, advisories and sources of all dependencies (needs cargo-deny).
deny:
    cargo deny check

# The benchmarks.
bench:
    cargo bench -p drafthorse-logits --bench sampler --target-dir target/light
    cargo bench --bench engine
    cargo bench --bench rules
    cargo bench --bench verify_cost
    cargo bench --bench never_loses
