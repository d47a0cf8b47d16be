use crate::TokenId;

/// What comes before the position a row of logits is for.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    tokens: &'a [TokenId],
    prompt: usize,
    memory: Memory,
}

impl<'a> Context<'a> {
    /// All tokens so far, drafted ones included, of which the first `prompt` are the prompt.
    ///
    /// A `prompt` beyond the end means that everything is prompt.
    pub fn new(tokens: &'a [TokenId], prompt: usize) -> Self {
        Self { tokens, prompt: prompt.min(tokens.len()), memory: Memory::off() }
    }

    /// The same context, with what is remembered of the generated tokens.
    #[must_use]
    pub fn remembering(self, memory: Memory) -> Self {
        Self { memory, ..self }
    }

    /// Prompt and generated tokens.
    pub fn tokens(&self) -> &'a [TokenId] {
        self.tokens
    }

    /// The tokens after the prompt.
    pub fn generated(&self) -> &'a [TokenId] {
        &self.tokens[self.prompt..]
    }

    /// What is remembered of the generated tokens.
    pub fn memory(&self) -> Memory {
        self.memory
    }
}

/// What processors remember of the tokens that were generated: how surprising they were.
///
/// It is a small value that is handed on, never kept by a processor: a draft advances a copy along its tokens
/// ([`Sampler::remember`](crate::Sampler::remember)), and where the draft is refused the copy is dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Memory(Option<f64>);

impl Memory {
    /// Nothing is remembered, and processors that need a memory change nothing.
    pub fn off() -> Self {
        Self(None)
    }

    /// Surprises up to `bits` are allowed next ([`Mirostat`](super::Mirostat)).
    pub(crate) fn allowing(bits: f64) -> Self {
        Self(Some(bits))
    }

    /// The surprise, in bits, that is allowed next; `None` where nothing is remembered.
    pub fn allowed(self) -> Option<f64> {
        self.0
    }
}
