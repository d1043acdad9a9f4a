//! Who may see changes: what is understood of policies, and what is remembered of their answers.

mod definitions;
mod listener;
mod policies;
mod race;
