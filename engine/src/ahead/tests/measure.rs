//! What is won where the drafter has a device of its own: models that sleep take no time from each other.

use super::{TableModel, VOCAB, always, pair};
use crate::{Ahead, AheadOptions, AheadWhen, Engine, SessionOptions, Stats};
use drafthorse_drafter::{Drafter, ModelDrafter};
use drafthorse_logits::{Logits, SamplingOptions};
use drafthorse_model::{LanguageModel, ModelError, Segment};
use std::{sync::Arc, time::Duration};

/// Takes this long, whatever it reads.
struct Asleep(Arc<TableModel>, Duration);

impl LanguageModel for Asleep {
    type Cache = <TableModel as LanguageModel>::Cache;

    fn vocab_size(&self) -> usize {
        VOCAB
    }

    fn context_len(&self) -> usize {
        self.0.context_len()
    }

    fn new_cache(&self) -> Self::Cache {
        self.0.new_cache()
    }

    fn forward(&self, segments: &mut [Segment<'_, Self::Cache>]) -> Result<Vec<Logits>, ModelError> {
        std::thread::sleep(self.1);
        self.0.forward(segments)
    }
}

fn run(expert: &Arc<Asleep>, drafter: impl Drafter + 'static, k: usize, temperature: f32) -> Stats {
    let mut engine = Engine::builder().expert(expert.clone()).drafter(drafter).build().unwrap();
    let mut all = Stats::default();
    for seed in 0..3 {
        let sampling = SamplingOptions { temperature, ..Default::default() };
        let draft_length = Some(k.into());
        let options = SessionOptions { sampling, draft_length, max_tokens: 200, seed, ..Default::default() };
        let mut session = engine.session(&[1, 2, 1], &options).unwrap();
        assert!(session.by_ref().all(|step| step.is_ok()));
        all.merge(session.stats());
    }
    all
}

/// `cargo test --release -p drafthorse-engine --lib ahead -- --ignored --nocapture`
#[test]
#[ignore = "measures"]
fn what_is_won_with_a_device_to_spare() {
    let ms = Duration::from_millis;
    let [expert, drafter] = pair(11);
    let expert = Arc::new(Asleep(expert, ms(10)));
    let per_token = |stats: &Stats| stats.decode_time().as_secs_f64() * 1e3 / stats.emitted as f64;
    for cost in [1, 2, 3] {
        let drafter = || ModelDrafter::new(Arc::new(Asleep(drafter.clone(), ms(cost))));
        for (k, temperature) in [(2, 0.0), (4, 0.0), (2, 1.0), (4, 1.0)] {
            let alone = run(&expert, drafter(), k, temperature);
            let acceptance = alone.acceptance_rate().unwrap_or(0.0);
            println!(
                "draft cost 0.{cost}, k = {k}, temperature {temperature}, acceptance {acceptance:.2}: {:.2} ms a token alone",
                per_token(&alone)
            );
            let measured = AheadOptions { outcomes: 6, when: AheadWhen::Measured { spare: true } };
            for options in [always(1), always(3), always(6), measured] {
                let ahead = Ahead::new(drafter(), options);
                let report = ahead.report();
                let with = per_token(&run(&expert, ahead, k, temperature));
                let speedup = per_token(&alone) / with;
                println!(
                    "  {options:?}: {with:.2} ms a token, {speedup:.2} times as fast; {}",
                    report.stats()
                );
            }
        }
    }
}
