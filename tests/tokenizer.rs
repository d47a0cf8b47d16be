//! Text to tokens and back, whole and token by token.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use drafthorse::{
    TokenId, Tokenizer, demo,
    model::{Detokenizer, ModelError, TextStream},
};
use proptest::{prelude::*, sample::select};
use std::{
    path::{Path, PathBuf},
    sync::{Arc, LazyLock},
};

const TEXTS: [&str; 12] = [
    "It was a dark and stormy night; the rain fell in torrents.",
    "  two spaces in front, a tab\tinside, spaces behind   ",
    "lines\n\nand\r\nmore lines\n",
    "Question: 12 + 345 = ?\nAnswer: 357",
    "fn main() { println!(\"{:?}\", [0u8; 16]); }",
    "🙂 👍🏽 👩‍👩‍👧‍👦 🇫🇷",
    "漢字とかな、한글도 있다。",
    "e\u{301} o\u{308} a\u{30a}\u{323} é",
    "Привет, мир; γειά σου; שלום; مرحبا",
    "math: ∀x∈ℝ: ⌈x⌉ = −⌊−x⌋",
    "control \u{0}\u{1}\u{7f} and \u{feff}\u{200b}",
    "\u{10ffff}\u{fffd}\u{ffff}",
];

const END_OF_TEXT: TokenId = 0;

static DEMO: LazyLock<Arc<Tokenizer>> = LazyLock::new(|| open(&root().join("assets/demo/tokenizer.json")));

/// The tokenizers whose tokens are bytes, so that no text is lost: that of the demo pair, and that of GPT-2
/// where it lies beside the checkout.
static BYTE_LEVEL: LazyLock<Vec<Arc<Tokenizer>>> = LazyLock::new(|| {
    let gpt2 = beside("data/tokenizers/gpt2.json").map(|path| open(&path));
    [DEMO.clone()].into_iter().chain(gpt2).collect()
});

/// Those that write unknown characters as bytes and take the space in front of a text away: the smallest there
/// can be, and a real one where it lies beside the checkout.
static BYTE_FALLBACK: LazyLock<Vec<Arc<Tokenizer>>> = LazyLock::new(|| {
    let real = beside("models/stories260K/tokenizer.json").map(|path| open(&path));
    [Arc::new(smallest())].into_iter().chain(real).collect()
});

/// Knows an opening token, the space, three letters, and the bytes.
fn smallest() -> Tokenizer {
    let bytes = (0..256).map(|byte| format!("<0x{byte:02X}>"));
    let known = ["<s>", "\u{2581}", "a", "b", "c"].map(str::to_owned).into_iter().chain(bytes);
    let vocab: serde_json::Map<_, _> = known.zip(0..).map(|(text, id)| (text, id.into())).collect();
    let json = serde_json::json!({
        "version": "1.0",
        "added_tokens": [{"id": 0, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false,
                          "normalized": false, "special": true}],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "\u{2581}"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "\u{2581}"}]},
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "\u{2581}"}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "model": {"type": "BPE", "byte_fallback": true, "vocab": vocab, "merges": []},
    });
    Tokenizer::embedded("the smallest", json.to_string().as_bytes()).unwrap()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A file that is not part of the project but may lie beside it.
fn beside(name: &str) -> Option<PathBuf> {
    let path = root().join("../shared").join(name);
    let found = path.exists();
    if !found {
        println!("NOT RUN with {name}: it is not on this machine");
    }
    found.then_some(path)
}

fn open(path: &Path) -> Arc<Tokenizer> {
    Arc::new(Tokenizer::open(path).unwrap())
}

fn every() -> impl Iterator<Item = &'static Arc<Tokenizer>> {
    BYTE_LEVEL.iter().chain(BYTE_FALLBACK.iter())
}

/// What a stream gives out for each token, and at last what was left.
fn pieces(mut stream: TextStream, tokens: &[TokenId]) -> Vec<String> {
    let mut pieces: Vec<String> = tokens.iter().map(|&token| stream.push(token).unwrap()).collect();
    pieces.push(stream.finish().unwrap());
    pieces
}

fn streamed(tokenizer: &Arc<Tokenizer>, tokens: &[TokenId]) -> String {
    pieces(TextStream::new(tokenizer.clone()), tokens).concat()
}

/// The bytes of the tokens are those of the text, but for the space that some write in front.
#[test]
fn tokens_are_bytes_of_the_text() {
    for tokenizer in every() {
        let bytes = tokenizer.token_bytes().unwrap();
        for text in TEXTS {
            let tokens = tokenizer.encode(text).unwrap();
            let written = tokens.iter().filter_map(|&token| bytes[token as usize].text()).flatten();
            let written: Vec<u8> = written.copied().collect();
            let spaced = written.strip_prefix(b" ").unwrap_or_default();
            assert!(written == text.as_bytes() || spaced == text.as_bytes(), "{tokenizer:?}: {text:?}");
        }
    }
}

/// A text comes out piece by piece: all of it, each piece once, never half a character.
fn assert_streams(tokenizer: &Arc<Tokenizer>, text: &str) {
    let tokens = tokenizer.encode(text).unwrap();
    let mut rest = text;
    for piece in pieces(TextStream::new(tokenizer.clone()), &tokens) {
        let after = rest.strip_prefix(piece.as_str());
        rest = after.unwrap_or_else(|| panic!("{piece:?} is not what comes next in {rest:?}"));
    }
    assert_eq!(rest, "");
}

/// Length of the text of the characters that `tokens` hold whole. One more may have begun: within the last token, or in
/// up to three tokens of their own, without which the tokenizer may see the others.
fn whole_characters(tokenizer: &Tokenizer, tokens: &[TokenId]) -> usize {
    let texts =
        (0..4.min(tokens.len() + 1)).map(|cut| tokenizer.decode(&tokens[..tokens.len() - cut]).unwrap());
    texts.map(|text| text.trim_end_matches(char::REPLACEMENT_CHARACTER).len()).max().unwrap()
}

/// Wherever a prompt is cut off, also within a character, the stream gives what is missing of the text.
fn assert_continues(tokenizer: &Arc<Tokenizer>, text: &str) {
    let tokens = tokenizer.encode(text).unwrap();
    for cut in 0..=tokens.len() {
        let (prompt, rest) = tokens.split_at(cut);
        let shown = whole_characters(tokenizer, prompt);
        let stream = TextStream::after(tokenizer.clone(), prompt);
        assert_eq!(pieces(stream, rest).concat(), text[shown..], "{cut} tokens of {text:?}");
    }
}

#[test]
fn every_text_comes_back() {
    for tokenizer in every() {
        for text in TEXTS {
            assert_eq!(tokenizer.decode(&tokenizer.encode(text).unwrap()).unwrap(), text, "{tokenizer:?}");
        }
        assert_eq!(tokenizer.decode(&tokenizer.encode("").unwrap()).unwrap(), "");
    }
}

/// The texts in which no character looks like one that is broken.
fn sound() -> impl Iterator<Item = &'static str> {
    TEXTS.into_iter().filter(|text| !text.contains(char::REPLACEMENT_CHARACTER))
}

#[test]
fn every_text_streams() {
    for tokenizer in every() {
        sound().for_each(|text| assert_streams(tokenizer, text));
    }
}

#[test]
fn every_text_continues() {
    for tokenizer in BYTE_LEVEL.iter() {
        sound().for_each(|text| assert_continues(tokenizer, text));
    }
}

/// Bytes that follow each other are one text here: a byte of a character that is not there whole spoils all
/// of them.
#[test]
fn every_text_continues_with_byte_fallback() {
    for tokenizer in BYTE_FALLBACK.iter() {
        sound().for_each(|text| assert_continues(tokenizer, text));
    }
}

/// Text made of characters of every length in bytes.
fn text() -> impl Strategy<Value = String> {
    let characters = "a Z9 \n\u{301}éßж漢ก한\u{200d}🙂👩🏽𝔘".chars().collect::<Vec<_>>();
    let character = prop_oneof![select(characters), any::<char>()];
    prop::collection::vec(character, 0..24).prop_map(|text| text.into_iter().collect())
}

/// Ids below 4096, which all tokenizers but the smallest have; the few below 300 are bytes.
fn tokens() -> impl Strategy<Value = Vec<TokenId>> {
    prop::collection::vec(prop_oneof![0u32..300, 0u32..4096], 0..24)
}

proptest! {
    #[test]
    fn random_text_comes_back(text in text()) {
        for tokenizer in BYTE_LEVEL.iter() {
            prop_assert_eq!(&tokenizer.decode(&tokenizer.encode(&text).unwrap()).unwrap(), &text);
            if !text.contains(char::REPLACEMENT_CHARACTER) {
                assert_streams(tokenizer, &text);
                assert_continues(tokenizer, &text);
            }
        }
    }

    /// Also where bytes make no characters: in a byte-level text those stand for themselves.
    #[test]
    fn random_tokens_stream_as_they_decode(tokens in tokens()) {
        for tokenizer in BYTE_LEVEL.iter() {
            prop_assert_eq!(streamed(tokenizer, &tokens), tokenizer.decode(&tokens).unwrap());
        }
    }

    /// Bytes that make no character spoil the bytes around them here, also those given out already.
    #[test]
    fn random_tokens_stream_with_byte_fallback(tokens in prop::collection::vec(0u32..512, 0..24)) {
        for tokenizer in BYTE_FALLBACK.iter() {
            let tokens: Vec<_> = tokens.iter().map(|id| id % tokenizer.vocabulary().len() as TokenId).collect();
            let whole = tokenizer.decode(&tokens).unwrap();
            if !whole.contains(char::REPLACEMENT_CHARACTER) {
                prop_assert_eq!(streamed(tokenizer, &tokens), whole);
            }
        }
    }

    #[test]
    fn random_text_streams_with_byte_fallback(text in text()) {
        // The one sign that stands for another there.
        let text = text.replace(['\u{2581}', char::REPLACEMENT_CHARACTER], "");
        BYTE_FALLBACK.iter().for_each(|tokenizer| assert_streams(tokenizer, &text));
    }

    /// Special tokens within a text are nothing to see, also within a character.
    #[test]
    fn special_tokens_are_silent(text in text(), places in prop::collection::vec(any::<prop::sample::Index>(), 1..5)) {
        let mut tokens = DEMO.encode(&text).unwrap();
        for place in places {
            tokens.insert(place.index(tokens.len() + 1), END_OF_TEXT);
        }
        prop_assert_eq!(&streamed(&DEMO, &tokens), &text);
        prop_assert_eq!(&DEMO.decode(&tokens).unwrap(), &text);
    }

    /// What the engine is given does what the stream does.
    #[test]
    fn the_engine_sees_the_same_text(tokens in tokens(), cut in any::<prop::sample::Index>()) {
        let (prompt, rest) = tokens.split_at(cut.index(tokens.len() + 1));
        let mut decoder = DEMO.text_after(prompt);
        let mut text: String = rest.iter().map(|&token| decoder.push(token).unwrap()).collect();
        text += &decoder.finish().unwrap();
        prop_assert_eq!(text, pieces(TextStream::after(DEMO.clone(), prompt), rest).concat());
    }
}

#[test]
fn a_prompt_opens_with_the_token_of_the_document() {
    let tokens = DEMO.encode("Once upon a time").unwrap();
    assert_eq!((tokens[0], tokens[1..].contains(&END_OF_TEXT)), (END_OF_TEXT, false));
    assert_eq!(DEMO.encode("").unwrap(), [END_OF_TEXT]);
    assert_eq!(DEMO.vocabulary().text(END_OF_TEXT), Some("<|endoftext|>"));
    assert_eq!(DEMO.decode(&[END_OF_TEXT]).unwrap(), "");
    assert_eq!(pieces(TextStream::new(DEMO.clone()), &[END_OF_TEXT, END_OF_TEXT]), ["", "", ""]);
}

#[test]
fn digits_stand_alone() {
    let text = "1234567890";
    assert_eq!(DEMO.encode(text).unwrap().len(), 1 + text.len());
}

/// The bytes of a character come as tokens of their own; nothing shows before the last.
#[test]
fn a_character_in_pieces_shows_with_its_last_piece() {
    let tokens = &DEMO.encode("🙂").unwrap()[1..];
    assert!(tokens.len() > 1, "the tokenizer has a token for it, take a rarer one");
    let given = pieces(TextStream::new(DEMO.clone()), tokens);
    let (last, silent) = given[..tokens.len()].split_last().unwrap();
    assert_eq!((last.as_str(), given[tokens.len()].as_str()), ("🙂", ""));
    assert!(silent.iter().all(String::is_empty), "{given:?}");
    // Where the rest never comes, one sign says so, at the end.
    let given = pieces(TextStream::new(DEMO.clone()), &tokens[..tokens.len() - 1]);
    assert_eq!(given.concat(), "\u{fffd}");
    assert_eq!(given.last().unwrap(), "\u{fffd}");
}

#[test]
fn a_finished_stream_goes_on() {
    let tokens = DEMO.encode("one two").unwrap();
    let mut stream = TextStream::new(DEMO.clone());
    let push = |stream: &mut TextStream| tokens.iter().map(|&t| stream.push(t).unwrap()).collect::<String>();
    assert_eq!(push(&mut stream), "one two");
    assert_eq!((stream.finish().unwrap(), stream.finish().unwrap()), (String::new(), String::new()));
    assert_eq!(push(&mut stream), "one two");
}

/// The shipped file, the one in the program and those of both models are one.
#[test]
fn the_program_holds_the_file() {
    for (_, tokenizer) in [demo::expert_facts().unwrap(), demo::drafter_facts().unwrap()] {
        assert_eq!(tokenizer.vocabulary(), DEMO.vocabulary());
        assert_eq!(tokenizer.encode(TEXTS[5]).unwrap(), DEMO.encode(TEXTS[5]).unwrap());
    }
    assert_eq!(DEMO.vocabulary().len(), 4096);
    assert_eq!(DEMO.vocabulary().text(4096), None);
}

/// Ids beyond the vocabulary, as padded rows of logits can give them, have no text.
#[test]
fn unknown_ids_are_silent() {
    let mut tokens = DEMO.encode("a b").unwrap();
    tokens.insert(2, 4096);
    tokens.push(u32::MAX);
    assert_eq!(streamed(&DEMO, &tokens), "a b");
}

/// What a tokenizer was trained with must not cut prompts or pad them.
#[test]
fn truncation_and_padding_of_the_file_are_ignored() {
    let text = std::fs::read_to_string(root().join("assets/demo/tokenizer.json")).unwrap();
    let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
    json["truncation"] = serde_json::json!(
        {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0});
    json["padding"] = serde_json::json!(
        {"strategy": {"Fixed": 64}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0,
         "pad_type_id": 0, "pad_token": "<|endoftext|>"});
    let tokenizer = Tokenizer::embedded("padded", json.to_string().as_bytes()).unwrap();
    assert_eq!(tokenizer.encode(TEXTS[0]).unwrap(), DEMO.encode(TEXTS[0]).unwrap());
}

#[test]
fn what_is_no_tokenizer_is_refused() {
    for bytes in [&b""[..], b"{", b"{}", b"[1, 2]", &[0xff; 20], b"{\"model\": {\"type\": \"none\"}}"] {
        let error = Tokenizer::embedded("the file", bytes).unwrap_err();
        assert!(matches!(error, ModelError::Tokenizer { .. }), "{error:?}");
        assert!(
            error.to_string().starts_with("tokenizer: the file is damaged or of another format: "),
            "{error}"
        );
    }
    let folder = tempfile::tempdir().unwrap();
    assert!(Tokenizer::find(folder.path()).unwrap().is_none());
    let path = folder.path().join("tokenizer.json");
    let error = Tokenizer::open(&path).unwrap_err();
    assert!(matches!(&error, ModelError::Io { path: named, .. } if *named == path), "{error:?}");
    assert_eq!(error.to_string(), format!("cannot read {}", path.display()));
}
