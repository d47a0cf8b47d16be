//! Texts between two tokenizers.

use super::{Spelling, Translation};
use drafthorse_logits::TokenId;
use std::{collections::HashMap, sync::Arc};

/// A piece of a text that is written by itself ends at the first good place after so many bytes.
const PIECE: usize = 48;

/// Where no good place comes, it ends between two characters after so many.
const LONGEST_PIECE: usize = 512;

/// The most tokens back to where a tokenizer surely begins a new token.
const BORDER: usize = 16;

/// The most pieces that are remembered.
const REMEMBERED: usize = 4096;

/// Writes the expert's sequences in the drafter's tokens as texts: as the drafter's own tokenizer writes them.
///
/// A text is cut in pieces at places that depend only on what stands before them, so that a text that grows keeps the
/// tokens of all but its last piece. What was written is remembered; that saves work and changes no result.
#[derive(Debug)]
pub struct Transcriber {
    translation: Arc<Translation>,
    written: HashMap<Box<[u8]>, Vec<TokenId>>,
}

impl Transcriber {
    /// Nothing is written yet.
    pub fn new(translation: Arc<Translation>) -> Self {
        Self { translation, written: HashMap::new() }
    }

    /// What it writes by.
    pub fn translation(&self) -> &Arc<Translation> {
        &self.translation
    }

    /// The text of the expert's `sequence` in the drafter's tokens; `None` where the drafter cannot write it.
    pub fn text(&mut self, sequence: &[TokenId]) -> Option<Vec<TokenId>> {
        let translation = self.translation.clone();
        let mut out = translation.opening(sequence);
        let (mut run, mut first) = (Vec::new(), true);
        for &token in sequence {
            if let Some(bytes) = translation.text_of(token) {
                run.extend_from_slice(bytes);
                continue;
            }
            first &= run.is_empty() || !self.write_run(std::mem::take(&mut run), first, &mut out)?;
            out.extend_from_slice(translation.token(token));
        }
        self.write_run(run, first, &mut out)?;
        Some(out)
    }

    /// Writes a text between two marks; whether there was one.
    fn write_run(&mut self, mut run: Vec<u8>, first: bool, out: &mut Vec<TokenId>) -> Option<bool> {
        let Translation { expert, drafter, .. } = &*self.translation;
        if first && !run.is_empty() {
            respace(&mut run, expert, drafter);
        }
        let (finished, last) = pieces(&run);
        for piece in finished {
            if let Some(tokens) = self.written.get(piece) {
                out.extend_from_slice(tokens);
                continue;
            }
            if self.written.len() >= REMEMBERED {
                self.written.clear();
            }
            let tokens = drafter.write(piece)?;
            out.extend_from_slice(&tokens);
            self.written.insert(piece.into(), tokens);
        }
        out.extend(drafter.write(last)?);
        Some(!run.is_empty())
    }
}

impl Translation {
    /// The expert's tokens for a text that follows its `sequence`, as its tokenizer would go on there. Bytes at the end
    /// that are no character yet are left out. `None` where the expert has no tokens for the text, whatever follows.
    pub fn follow(&self, sequence: &[TokenId], text: &[u8]) -> Option<Vec<TokenId>> {
        let tail = self.since_border(sequence);
        let mut whole = self.expert.read(tail)?;
        let before = whole.len();
        whole.extend_from_slice(text);
        let (end, broken) = match std::str::from_utf8(&whole) {
            Ok(_) => (whole.len(), false),
            Err(error) => (error.valid_up_to(), error.error_len().is_some()),
        };
        if broken || end <= before {
            return (!broken).then(Vec::new);
        }
        let joined = self.expert.write(&whole[..end]);
        let rest = joined.as_ref().and_then(|joined| joined.strip_prefix(tail));
        // Where the tokenizer would have written the border itself in another way, the sequence stays as it is.
        rest.map(<[_]>::to_vec).or_else(|| self.expert.write(&whole[before..end]))
    }

    /// The last tokens, from a place where a tokenizer surely begins a new one.
    fn since_border<'a>(&self, sequence: &'a [TokenId]) -> &'a [TokenId] {
        let far = sequence.len().saturating_sub(BORDER);
        for start in (far..sequence.len()).rev() {
            let Some(bytes) = self.text_of(sequence[start]) else { return &sequence[start + 1..] };
            let before = start.checked_sub(1).map(|at| self.text_of(sequence[at]));
            let is_border = match before {
                None | Some(None) => true,
                Some(Some(before)) => is_border(before.last().copied(), bytes.first().copied()),
            };
            if is_border {
                return &sequence[start..];
            }
        }
        &[]
    }
}

/// Whether tokenizers begin a new token here: a space after something else. Line ends are no such place, since some
/// tokenizers put them to what stands before.
fn is_border(before: Option<u8>, after: Option<u8>) -> bool {
    after == Some(b' ') && before.is_some_and(|byte| !byte.is_ascii_whitespace())
}

/// The finished pieces of a text, and the one that can still grow.
fn pieces(text: &[u8]) -> (Vec<&[u8]>, &[u8]) {
    let (mut finished, mut start) = (Vec::new(), 0);
    for at in 1..text.len() {
        let length = at - start;
        let character = text[at] & 0xC0 != 0x80;
        let good = length >= PIECE && is_border(Some(text[at - 1]), Some(text[at]));
        if good || (length >= LONGEST_PIECE && character) {
            finished.push(&text[start..at]);
            start = at;
        }
    }
    (finished, &text[start..])
}

/// The beginning of a text: with the space in front that one tokenizer writes there and the other does not.
fn respace(text: &mut Vec<u8>, from: &Spelling, to: &Spelling) {
    match (from.is_spaced() && text.first() == Some(&b' '), to.is_spaced()) {
        (true, false) => drop(text.remove(0)),
        (false, true) => text.insert(0, b' '),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{TokenBytes, Vocabulary};
    use proptest::prelude::*;

    fn spelling(texts: &[&str]) -> Spelling {
        Spelling::plain(Vocabulary::new(texts.iter().map(|text| Some((*text).to_owned()))))
    }

    fn between(expert: Spelling, drafter: Spelling) -> Arc<Translation> {
        Arc::new(Translation::new(expert, drafter))
    }

    fn text(translation: &Arc<Translation>, sequence: &[TokenId]) -> Vec<TokenId> {
        Transcriber::new(translation.clone()).text(sequence).expect("all is spelt")
    }

    #[test]
    fn a_text_is_written_as_its_reader_writes_texts() {
        let translation = between(spelling(&["a", "b", " "]), spelling(&["a", "b", " ", "ab", " ab"]));
        assert_eq!(text(&translation, &[0, 1, 2, 0, 1]), [3, 4]);
        assert_eq!(translation.tokens(&[0, 1, 2, 0, 1]), [0, 1, 2, 0, 1], "not so token by token");
    }

    #[test]
    fn what_cannot_be_written_is_not_guessed() {
        let translation = between(spelling(&["a", "z"]), spelling(&["a"]));
        assert_eq!(Transcriber::new(translation).text(&[0, 1]), None);
    }

    #[test]
    fn a_text_goes_on_in_the_experts_tokens() {
        let expert = spelling(&["a", "b", " ", "ab", " a", "é"]);
        let translation = between(expert, spelling(&["a", "b", " "]));
        let follow = |sequence: &[TokenId], text: &[u8]| translation.follow(sequence, text);
        assert_eq!(follow(&[0], b"b a"), Some(vec![1, 4]), "the sequence stays `a`, though `ab` is a token");
        assert_eq!(follow(&[3], b"ab"), Some(vec![3]));
        assert_eq!(follow(&[4], b"b"), Some(vec![1]));
        assert_eq!(follow(&[0], b"a\xC3"), Some(vec![0]), "half a character is held back");
        assert_eq!(follow(&[0], b"\xC3"), Some(vec![]));
        assert_eq!(follow(&[0], b"a\xFFa"), None, "what is no text never will be one");
        assert_eq!(follow(&[0], b"az"), None);
    }

    #[test]
    fn a_character_can_begin_in_the_sequence_and_end_in_the_draft() {
        let bytes = [&b"a"[..], &[0xC3], &[0xA9], "é".as_bytes()];
        let tokens = bytes.iter().map(|bytes| TokenBytes::Text((*bytes).into())).collect();
        let texts = ["a", "1", "2", "3"].map(|text| Some(text.to_owned()));
        let expert = Spelling::new(Vocabulary::new(texts), tokens);
        let translation = between(expert.clone(), expert);
        assert_eq!(translation.follow(&[0, 1], &[0xA9, b'a']), Some(vec![2, 0]));
        assert_eq!(text(&translation, &[0, 1]), [0, 1], "and is read while it is not complete");
    }

    proptest! {
        /// Pieces only depend on what stands before their end.
        #[test]
        fn a_text_that_grows_keeps_its_pieces(words in prop::collection::vec("[a-e ]{1,40}|é{300}", 1..12)) {
            let text = words.concat().into_bytes();
            let (whole, _) = pieces(&text);
            for length in (0..text.len()).step_by(7) {
                let (finished, last) = pieces(&text[..length]);
                prop_assert_eq!(&finished[..], &whole[..finished.len()]);
                prop_assert_eq!([finished.concat(), last.to_vec()].concat(), &text[..length]);
            }
        }

        /// What was written before changes nothing, and what is read and followed is the text.
        #[test]
        fn texts_come_through(sequence in prop::collection::vec(0u32..5, 1..200), more in "[ab ]{1,20}") {
            let expert = spelling(&["a", "b", " ", "ab", " a"]);
            let translation = between(expert.clone(), spelling(&["b", "a", " b", " ", "aba"]));
            let mut transcriber = Transcriber::new(translation.clone());
            for length in 1..=sequence.len() {
                let known = transcriber.text(&sequence[..length]);
                prop_assert_eq!(known, Some(text(&translation, &sequence[..length])));
            }
            let read = translation.drafter().read(&text(&translation, &sequence));
            prop_assert_eq!(read, expert.read(&sequence));
            let follow = translation.follow(&sequence, more.as_bytes()).expect("all is spelt");
            prop_assert_eq!(expert.read(&follow), Some(more.into_bytes()));
        }
    }
}
