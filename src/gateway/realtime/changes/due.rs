//! Whom the changes of a batch concern.

use std::sync::Arc;

use super::{
    condition::Condition,
    registry::{Registry, Subscription},
    stream::Streamed,
};
use crate::gateway::realtime::messages;

/// A change and a subscription it concerns.
pub struct Due<'a> {
    /// The change.
    pub streamed: &'a Streamed,
    /// The subscription.
    pub subscription: Arc<Subscription>,
    /// The conditions that only Postgres can decide.
    pub undecided: Vec<Arc<Condition>>,
    /// What Postgres said against a statement without which this cannot be judged.
    pub refusal: Option<Arc<str>>,
}

impl<'a> Due<'a> {
    /// All of a batch, in its order.
    pub fn of(batch: impl IntoIterator<Item = &'a Streamed>, registry: &Registry) -> Vec<Self> {
        let mut all = Vec::new();
        for streamed in batch {
            if messages::is_messages(&streamed.relation) {
                continue;
            }
            let change = &streamed.change;
            let Some(row) = change.new.as_ref().or(change.old.as_ref()) else {
                continue;
            };
            let matching = registry.matching(&streamed.relation, change.kind, row);
            all.extend(matching.into_iter().map(|(subscription, undecided)| Self {
                streamed,
                subscription,
                undecided,
                refusal: None,
            }));
        }
        all
    }
}
