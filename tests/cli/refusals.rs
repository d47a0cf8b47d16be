//! What is refused, and the way out.

use super::*;

#[test]
fn what_cannot_be_done_is_said_in_one_line() {
    let cases: &[(&[&str], &str)] = &[
        (&["generate", PROMPT, "--temperature", "-1"], "temperature -1 is out of range"),
        (&["generate", PROMPT, "--top-p", "1.5"], "top-p 1.5 is out of range"),
        (&["generate", PROMPT, "-n", "0"], "max tokens is 0"),
        (&["generate", PROMPT, "-k", "9999"], "context of 2048 tokens is too small for drafts of 9999"),
        (&["generate", PROMPT, "-m", "no/such/folder"], "`no/such/folder` is not a folder"),
        (&["generate", "-f", "no-such-file"], "cannot read no-such-file"),
        (&["generate", "--tokens", "4096"], "token 4096 of the prompt is outside the vocabulary of 4096"),
        (&["generate", PROMPT, "--device", "vulkan:99"], "device `vulkan:99`"),
        (&["generate", PROMPT, "--regex", "a("], "the regular expression cannot be used: "),
        (&["generate", PROMPT, "-j", r#"{"not": {}}"#], "keywords that are not supported: `not`"),
        (&["generate", PROMPT, "-j", "no-such-file"], "cannot read no-such-file"),
        (&["generate", PROMPT, "--compact"], "--compact is for JSON"),
        (&["generate", PROMPT, "--regex", "a("], ": a(: unclosed group"),
        (&["generate", PROMPT, "--grammar", "root ::= \"a\""], "this is GBNF"),
        (&["generate", PROMPT, "--regex", "[0-9]+", "--forced-first", "1"], "does not allow token 1 at"),
        (&["generate", PROMPT, "-p", "another"], "cannot be used with"),
        (&["generate"], "or on the standard input, which is empty"),
        (&["generate", "--json", "--logprobs", PROMPT], "write --logprobs=N"),
        (&["generate", PROMPT, "--ensemble", "ngram"], "`ngram` and `none` are for --drafter alone"),
        (
            &["generate", PROMPT, "-d", "ngram", "--draft-chain", "suffix"],
            "--draft-chain is for a drafter that is a model",
        ),
        (&["generate", PROMPT, "-d", "demo", "--draft-bridge", "slem"], "with another tokenizer"),
        (&["generate", PROMPT, "-d", "demo", "--draft-store", "x"], "the drafters `suffix` and `memory`"),
        (&["generate", PROMPT, "-d", "ngram", "--ahead", "on"], "no model that drafts by itself"),
        (&["generate", PROMPT, "-d", "none", "--tree", "2"], "--tree needs a drafter"),
        (&["generate", PROMPT, "--tree", "0x2"], "a tree of no nodes"),
        (&["generate", PROMPT, "-d", "exit:9"], "`exit:9` is impossible in a model of 6 layers"),
        (
            &["generate", PROMPT, "-k", "confidence:2"],
            "threshold 2 of draft length `confidence` is out of range",
        ),
        (&["generate", PROMPT, "-k", "soon"], "`soon` is no draft length"),
        (&["generate", PROMPT, "--config", "no/such.toml"], "there is no such file"),
        (&["tune", "demo", "-d", "no/such"], "no drafter can be used"),
        (&["tune", "demo", "--rules", "lossless,wishful"], "there is no rule `wishful`"),
        (&["generate", PROMPT, "-d", "no/such"], "a drafter can also be `ngram`, `suffix`, `memory`"),
        (&["generate", PROMPT, "-s", "x"], "or -1 to draw one"),
        (&["generate", PROMPT, "--law", "sled:"], "a setting of law `sled:` is empty"),
        (&["generate", PROMPT, "--law", "sled:steps=101"], "evolution steps 101 is out of range: 1 to 100"),
        (&["generate", PROMPT, "--guidance-scale", "101"], "guidance scale 101 is out of range: 0 to 100"),
        (&["generate", PROMPT, "--samplers", ""], "no stage is named"),
        (&["generate", PROMPT, "--dry-multiplier", "-1"], "DRY multiplier -1 is out of range"),
        (&["generate", PROMPT, "--no-repeat-ngram-size", "5000"], "0 (off) to 1000 tokens"),
        (&["score", "Once upon a time"], "a text goes with -p TEXT"),
        (&["inspect", PROMPT, "--guidance-scale", "2"], "unexpected argument"),
        (&["beam", PROMPT, "--drafter", "demo"], "unexpected argument"),
        (&["classify", "--tokens", "1", "-l", "a,b"], "unexpected argument"),
        (&["generate", PROMPT, "--json-mode", "--regex", "a"], "cannot be used with"),
        (&["bench", "-r", "0"], "--repetitions and --max-tokens must be at least 1"),
        (
            &["generate", PROMPT, "-d", "ngram", "--draft-weights", "q8"],
            "drafter `ngram` is none; leave it out",
        ),
        (
            &["generate", PROMPT, "--rule", "wishful"],
            "there is no rule `wishful`; the rules are lossless, block",
        ),
        (&["generate", PROMPT, "--rule", "block", "--lenience", "0.5"], "rule block has no dial `lenience`"),
        (&["generate", PROMPT, "--rule", "cascade-chow:lenience=2"], "lenience 2 is out of range: 0 to 1"),
        (&["generate", PROMPT, "-d", "ngram", "--rule", "cascade-opt"], "drafter `ngram` has none"),
    ];
    for &(arguments, expected) in cases {
        let output = run(arguments);
        assert!(!output.status.success());
        assert!(err(&output).contains(expected), "{arguments:?}: {}", err(&output));
        assert!(out(&output).is_empty() && !err(&output).contains("panicked"), "{arguments:?}");
    }
}

#[test]
fn processors_that_do_not_go_together_are_refused() {
    for (options, words) in [
        ("-t 1 --mirostat 2 --top-k 4", "mirostat takes the place of other choices, but top-k is on too"),
        ("-t 0.5 --samplers top-k", "stage `temperature` is on, but does not stand in `top-k`"),
        ("--samplers top-k,dry", "`dry` makes the law and stands after `top-k`"),
        ("--samplers top-k,top-k", "stage `top-k` stands in it twice"),
        ("--samplers top-kk", "`top-kk` is no stage"),
        ("--sampler-preset vulcan", "there are hf, llama.cpp, vllm"),
        ("--repeat-last-n 0", "write -1 for all tokens"),
        ("--min-tokens 5 --ignore-eos", "no token is known that ends a text"),
        ("-t 1 --xtc-probability 0.5 --xtc-threshold 0.7", "XTC threshold 0.7 is out of range"),
        ("--dynatemp-range 0.5", "around temperature 0, which is greedy"),
    ] {
        let options: Vec<_> = options.split(' ').collect();
        let output = run(&[&["generate", "--device", "cpu", PROMPT], &options[..]].concat());
        assert!(!output.status.success() && err(&output).contains(words), "{options:?}: {}", err(&output));
    }
}
