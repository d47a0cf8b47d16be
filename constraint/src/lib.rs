//! Grammars that a text must follow, as masks over the vocabulary along drafts.
