//! Drafters with another tokenizer than the demo expert's: bytes, the vocabulary of GPT-2, and a model of somebody
//! else's. Greedy texts are those of the expert alone, whatever drafts.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;
#[path = "common/counts.rs"]
mod counts;

use common::{AlwaysAccept, run};
use counts::CountModel;
use drafthorse::{
    DeviceChoice, Drafter, Engine, ExactMatch, LanguageModel, NoDrafter, SamplingOptions, SessionOptions,
    Stats, TokenId, Tokenizer, Transformer, WeightType, demo,
    drafter::{Bridge, TranslatedDrafter},
    model::{Spelling, Translation},
    open_device,
};
use std::{
    path::{Path, PathBuf},
    sync::{Arc, LazyLock},
};

static EXPERT: LazyLock<Arc<Transformer>> = LazyLock::new(|| {
    let device = open_device(DeviceChoice::Cpu).unwrap();
    demo::expert(&device, WeightType::F32).unwrap()
});

const PROMPTS: [&str; 7] = [
    "Question: Anna has 12 apples and gives 5 of them to Tom. How many apples are left?\nAnswer:",
    "class Stack:\n    def __init__(self):\n        self.items = []\n\n    def push(self, item):\n",
    "In Rust, ownership is a set of rules that",
    "The captain looked at the sea for a long while before he",
    "Once upon a time there was a little girl who",
    "漢字とかな、한글도 있다。 🙂 \u{301}",
    "  x",
];

fn beside(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared").join(name);
    let found = path.exists();
    if !found {
        println!("NOT RUN with {name}: it is not on this machine");
    }
    found.then_some(path)
}

fn expert_tokenizer() -> &'static Arc<Tokenizer> {
    EXPERT.tokenizer().unwrap()
}

/// A token for each byte, and one that ends a text under another name than the expert's.
fn bytes() -> Arc<Tokenizer> {
    let printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..);
    let mut others = 0x100..;
    let letter = |byte: u8| {
        let code = if printable(byte) { byte.into() } else { others.next().unwrap() };
        char::from_u32(code).unwrap().to_string()
    };
    let known = (0..=255).map(letter).chain(["<end>".to_owned()]);
    let vocab: serde_json::Map<_, _> = known.zip(0..).map(|(text, id)| (text, id.into())).collect();
    let level = serde_json::json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
                                   "use_regex": false});
    let json = serde_json::json!({
        "version": "1.0",
        "added_tokens": [{"id": 256, "content": "<end>", "single_word": false, "lstrip": false, "rstrip": false,
                          "normalized": false, "special": true}],
        "pre_tokenizer": level, "decoder": level,
        "model": {"type": "BPE", "vocab": vocab, "merges": []},
    });
    Arc::new(Tokenizer::embedded("bytes", json.to_string().as_bytes()).unwrap())
}

fn translation(tokenizer: &Arc<Tokenizer>) -> Arc<Translation> {
    let expert = Spelling::of(expert_tokenizer()).unwrap();
    Arc::new(Translation::new(expert, Spelling::of(tokenizer).unwrap()))
}

fn engine(drafter: impl Drafter + 'static) -> Engine {
    Engine::builder().expert(EXPERT.clone()).drafter(drafter).build().unwrap()
}

fn options(k: usize) -> SessionOptions {
    SessionOptions { max_tokens: 64, draft_length: Some(k.into()), ..Default::default() }
}

/// The texts after some prompts, and what the drafts came to.
fn texts(engine: &mut Engine, prompts: &[&str], options: &SessionOptions) -> (Vec<Vec<TokenId>>, Stats) {
    let mut all = Stats::default();
    let texts = prompts.iter().map(|prompt| {
        let prompt = expert_tokenizer().encode(prompt).unwrap();
        let run = run(engine.session(&prompt, options).unwrap());
        assert!(run.error.is_none(), "{:?}", run.error);
        all.drafted += run.stats.drafted;
        all.examined += run.stats.examined;
        all.accepted += run.stats.accepted;
        all.emitted += run.stats.emitted;
        all.rounds += run.stats.rounds;
        run.tokens()
    });
    (texts.collect(), all)
}

fn alone(prompts: &[&str], options: &SessionOptions) -> Vec<Vec<TokenId>> {
    texts(&mut engine(NoDrafter), prompts, options).0
}

/// A model that has read what the expert says, in a tokenizer's tokens: what it drafts is right as far as the way from
/// the one's tokens to the other's is.
fn parrot(tokenizer: &Tokenizer, vocab: usize) -> Arc<CountModel> {
    static TEXTS: LazyLock<Vec<String>> = LazyLock::new(|| {
        let written = alone(&PROMPTS, &SessionOptions { max_tokens: 80, ..options(0) });
        let decode = |tokens: &Vec<TokenId>| expert_tokenizer().decode(tokens).unwrap();
        PROMPTS.iter().zip(&written).map(|(prompt, tokens)| (*prompt).to_owned() + &decode(tokens)).collect()
    });
    let read: Vec<_> = TEXTS.iter().map(|text| tokenizer.encode_plain(text).unwrap()).collect();
    Arc::new(CountModel::of(&read, vocab))
}

/// Greedy texts, and those of a seed with exact match, are the expert's. Returns the drafts' fate for greedy texts with
/// drafts of 4.
fn changes_no_text<M: LanguageModel>(
    name: &str,
    model: &Arc<M>,
    translation: &Arc<Translation>,
    bridge: Bridge,
) -> Stats {
    let drafter = || TranslatedDrafter::new(model.clone(), translation.clone(), bridge).unwrap();
    let mut engine = engine(drafter());
    let mut last = Stats::default();
    for k in [1, 4] {
        let (found, stats) = texts(&mut engine, &PROMPTS, &options(k));
        assert!(found == alone(&PROMPTS, &options(0)), "{name}, {bridge}, k = {k}");
        last = stats;
    }
    let sampling = SamplingOptions { temperature: 0.8, ..Default::default() };
    let sampled =
        |k| SessionOptions { sampling: sampling.clone(), rule: Some(Arc::new(ExactMatch)), ..options(k) };
    let found = texts(&mut engine, &PROMPTS[..3], &sampled(3)).0;
    assert!(found == alone(&PROMPTS[..3], &sampled(0)), "{name}, {bridge}, sampled");
    let lossless = texts(&mut engine, &PROMPTS, &SessionOptions { sampling, ..options(4) }).1;
    for (what, stats) in [("greedy", &last), ("at 0.8", &lossless)] {
        println!(
            "{name}, {bridge}, {what}: {} of {} examined accepted ({} drafted), {:.2} tokens per expert pass",
            stats.accepted,
            stats.examined,
            stats.drafted,
            stats.emitted as f64 / stats.rounds as f64
        );
    }
    last
}

fn say(name: &str, translation: &Translation) {
    println!("{name}: {:?}", translation.overlap(Some(&PROMPTS.join("\n"))));
}

#[test]
fn bytes_draft_for_the_demo_expert() {
    let tokenizer = bytes();
    let translation = translation(&tokenizer);
    say("bytes", &translation);
    assert_eq!(translation.overlap(None).shared, 256, "the expert has all bytes");
    // The model's rows are longer than its list of tokens.
    let model = parrot(&tokenizer, 320);
    let choice = Bridge::choose(&translation.overlap(Some(PROMPTS[0])), false, false).unwrap();
    assert_eq!(choice.bridge, Bridge::Text, "{}", choice.reason);
    let as_text = changes_no_text("bytes", &model, &translation, Bridge::Text);
    assert!(as_text.accepted * 10 > as_text.examined * 8, "{} of {}", as_text.accepted, as_text.examined);
    let by_tokens = changes_no_text("bytes", &model, &translation, Bridge::Tokens);
    assert!(by_tokens.drafted > 0);
    // The same comparison sees a rule that keeps what is drafted.
    let drafter = TranslatedDrafter::new(model, translation, Bridge::Text).unwrap();
    let credulous = SessionOptions { rule: Some(Arc::new(AlwaysAccept)), ..options(4) };
    assert!(texts(&mut engine(drafter), &PROMPTS, &credulous).0 != alone(&PROMPTS, &options(0)));
}

#[test]
fn the_vocabulary_of_gpt_2_drafts_for_the_demo_expert() {
    let Some(path) = beside("data/tokenizers/gpt2.json") else { return };
    let tokenizer = Arc::new(Tokenizer::open(&path).unwrap());
    let translation = translation(&tokenizer);
    say("gpt-2", &translation);
    let overlap = translation.overlap(Some(&PROMPTS.join("\n")));
    assert!(overlap.share_of_expert > 0.5 && overlap.share_of_drafter < 0.1, "{overlap:?}");
    let end = |text| tokenizer.vocabulary().text(text).unwrap().to_owned();
    assert_eq!(translation.map().to_drafter(0).map(end).unwrap(), "<|endoftext|>");
    let model = parrot(&tokenizer, 50304);
    for (bridge, tenths) in [(Bridge::Tokens, 2), (Bridge::Text, 7)] {
        let stats = changes_no_text("gpt-2", &model, &translation, bridge);
        assert!(
            stats.accepted * 10 > stats.examined * tenths,
            "{bridge}: {} of {}",
            stats.accepted,
            stats.examined
        );
    }
}

#[test]
fn a_model_of_somebody_elses_drafts_for_the_demo_expert() {
    let Some(folder) = beside("models/stories260K") else { return };
    let device = open_device(DeviceChoice::Cpu).unwrap();
    let model = Arc::new(Transformer::open(&folder, &device, WeightType::F32).unwrap());
    let translation = translation(model.tokenizer().unwrap());
    say("stories260K", &translation);
    assert!(translation.drafter().is_spaced() && !translation.expert().is_spaced());
    for bridge in [Bridge::Tokens, Bridge::Text] {
        let stats = changes_no_text("stories260K", &model, &translation, bridge);
        assert!(stats.drafted > 0, "{bridge}");
    }
}

/// Texts of all kinds become the drafter's tokens and the expert's again without a loss.
#[test]
fn texts_come_through() {
    let tokenizers = ["data/tokenizers/gpt2.json", "models/stories260K/tokenizer.json"].map(beside);
    let opened = tokenizers.into_iter().flatten().map(|path| Arc::new(Tokenizer::open(&path).unwrap()));
    for tokenizer in opened.chain([bytes(), expert_tokenizer().clone()]) {
        let translation = translation(&tokenizer);
        let mut transcriber = drafthorse::model::Transcriber::new(translation.clone());
        for text in PROMPTS {
            let sequence = expert_tokenizer().encode(text).unwrap();
            for length in 1..=sequence.len() {
                let read = transcriber.text(&sequence[..length]).unwrap();
                let texts = read.iter().filter_map(|&token| translation.drafter().token(token).text());
                let (found, said) = (
                    texts.collect::<Vec<_>>().concat(),
                    translation.expert().read(&sequence[1..length]).unwrap(),
                );
                let spaced = found.strip_prefix(b" ").unwrap_or_default();
                assert!(found == said || spaced == said, "{tokenizer:?}: {text:?}");
                let rest = &translation.expert().read(&sequence[length..]).unwrap();
                let follow = translation.follow(&sequence[..length], rest);
                // Within a character nothing can be said of what follows.
                if std::str::from_utf8(&said).is_ok() {
                    assert_eq!(translation.expert().read(&follow.unwrap()).unwrap(), *rest);
                }
            }
        }
    }
}
