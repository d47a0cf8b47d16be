//! The rules, one file each.

pub(crate) mod bild;
pub(crate) mod block;
pub(crate) mod chow;
pub(crate) mod chow_log;
pub(crate) mod contrastive;
pub(crate) mod coupled_noise;
pub(crate) mod diff;
pub(crate) mod diff_log;
pub(crate) mod exact_match;
pub(crate) mod interpolation;
pub(crate) mod lenience;
pub(crate) mod lenience_balanced;
pub(crate) mod lossless;
pub(crate) mod mentored;
pub(crate) mod opt;
pub(crate) mod opt_log;
pub(crate) mod token_v1;
pub(crate) mod token_v2;
pub(crate) mod token_v3;
pub(crate) mod top_k;
pub(crate) mod truncate_min_p;
pub(crate) mod truncate_top_p;
pub(crate) mod typical;

use drafthorse_logits::{Probs, Scores};
use std::borrow::Cow;

/// What is sampled of the expert, among tokens whose raw probability is at least `least`.
fn truncated(expert: &Scores, least: f64) -> Cow<'_, Probs> {
    let (p, raw) = (expert.probs(), expert.raw());
    // A point is the most probable token, which always stays.
    if p.as_point().is_some() {
        return Cow::Borrowed(p);
    }
    let (row, edge) = (p.row(), raw.row());
    let law = row.iter().zip(edge.iter()).map(|(&p, &raw)| if raw >= least { p } else { 0.0 });
    Probs::collect(row.len(), law).map_or(Cow::Borrowed(p), Cow::Owned)
}
