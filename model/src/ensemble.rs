use crate::{KvCache, LanguageModel, ModelError, Segment, Vocabulary, language_model::check_shape};
use drafthorse_logits::{Combine, Logits};
use std::{fmt, sync::Arc};

/// Several models of one vocabulary as one: every forward asks all of them and combines their rows.
///
/// The combined law takes the place of the expert's logits before anything else sees them, so it goes with every
/// acceptance rule and every sampling option. A forward takes as long as the forwards of all members.
pub struct Ensemble<M> {
    members: Vec<Arc<M>>,
    combine: Combine,
}

impl<M> fmt::Debug for Ensemble<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ensemble {{ {} members, {:?} }}", self.members.len(), self.combine)
    }
}

/// What the members of an [`Ensemble`] remember of one sequence.
pub struct EnsembleCache<C>(Vec<C>);

impl<C> fmt::Debug for EnsembleCache<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EnsembleCache of {} members", self.0.len())
    }
}

impl<C: KvCache> KvCache for EnsembleCache<C> {
    /// What all of them hold: after a forward that failed some hold less.
    fn len(&self) -> usize {
        self.0.iter().map(KvCache::len).min().unwrap_or(0)
    }

    fn truncate(&mut self, len: usize) {
        self.0.iter_mut().for_each(|cache| cache.truncate(len));
    }

    fn keep_path(&mut self, start: usize, path: &[usize]) {
        self.0.iter_mut().for_each(|cache| cache.keep_path(start, path));
    }
}

impl<M: LanguageModel> Ensemble<M> {
    /// These models, combined.
    ///
    /// # Errors
    ///
    /// Fewer than two members, vocabularies that differ, or weights that do not fit the members.
    pub fn new(members: Vec<Arc<M>>, combine: Combine) -> Result<Self, ModelError> {
        let fail = |message: String| Err(ModelError::Ensemble { message });
        let [first, others @ ..] = &members[..] else { return fail("has no members".into()) };
        if others.is_empty() {
            return fail("has one member; at least two are needed".into());
        }
        if let Err(error) = combine.check(members.len()) {
            return fail(format!("cannot be made: {error}"));
        }
        for (index, other) in (2..).zip(others) {
            let (one, another) = (first.vocab_size(), other.vocab_size());
            if one != another {
                return fail(format!(
                    "has members of different vocabularies: member 1 has {one} tokens, member {index} has {another}; all need one tokenizer"
                ));
            }
            let both = first.vocabulary().zip(other.vocabulary());
            if let Some(difference) = both.and_then(|(one, another)| one.first_difference(another)) {
                let (token, show) =
                    (difference.token, |text: Option<String>| text.unwrap_or_else(|| "nothing".into()));
                let (one, another) = (show(difference.left), show(difference.right));
                return fail(format!(
                    "has members of different vocabularies: token {token} is `{one}` for member 1 and `{another}` for member {index}; all need one tokenizer"
                ));
            }
        }
        Ok(Self { members, combine })
    }
}

impl<M: LanguageModel> LanguageModel for Ensemble<M> {
    type Cache = EnsembleCache<M::Cache>;

    fn vocab_size(&self) -> usize {
        self.members[0].vocab_size()
    }

    fn context_len(&self) -> usize {
        self.members.iter().map(|member| member.context_len()).min().unwrap_or(0)
    }

    fn vocabulary(&self) -> Option<&Vocabulary> {
        self.members.iter().find_map(|member| member.vocabulary())
    }

    fn reads_trees(&self) -> bool {
        self.members.iter().all(|member| member.reads_trees())
    }

    fn new_cache(&self) -> Self::Cache {
        EnsembleCache(self.members.iter().map(|member| member.new_cache()).collect())
    }

    fn forward(&self, segments: &mut [Segment<'_, Self::Cache>]) -> Result<Vec<Logits>, ModelError> {
        let vocab = self.vocab_size();
        for segment in segments.iter_mut() {
            // A failure may have left more in some caches than in others.
            let len = segment.cache.len();
            segment.cache.truncate(len);
        }
        let mut said = Vec::with_capacity(self.members.len());
        for (index, member) in self.members.iter().enumerate() {
            let of = |segment| {
                let Segment { tokens, parents, rows, cache }: &mut Segment<'_, Self::Cache> = segment;
                Segment { tokens, parents: *parents, rows: *rows, cache: &mut cache.0[index] }
            };
            let mut own: Vec<_> = segments.iter_mut().map(of).collect();
            let found = member.forward(&mut own)?;
            for (logits, segment) in found.iter().zip(&own) {
                check_shape(logits, segment.rows, vocab)?;
            }
            said.push(found);
        }
        let of_segment = |(index, segment): (usize, &Segment<'_, Self::Cache>)| {
            let row = |row: usize| {
                let rows: Vec<_> = said.iter().map(|found| found[index].row(row)).collect();
                self.combine.logits(&rows)
            };
            Logits::new((0..segment.rows).flat_map(row).collect(), vocab)
        };
        Ok(segments.iter().enumerate().map(of_segment).collect())
    }
}
