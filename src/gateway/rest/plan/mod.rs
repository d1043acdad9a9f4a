//! What a request means in this schema: which relation or function, through which relationships, by which columns.
//!
//! - [`read`] resolves select lists and attaches filters, orders and limits to what they are about
//! - [`relationship`] finds what an embed means
//! - [`write`] checks a payload's keys and chooses what a conflict is

pub mod read;
mod relationship;
pub mod write;
