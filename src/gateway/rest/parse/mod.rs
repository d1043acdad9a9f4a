//! What a request says, before anybody looks into the schema.
//!
//! | part | read by |
//! | --- | --- |
//! | path | [`path`] |
//! | query string | [`query`]: [`select`], [`filter`] (with logic trees), [`operation`], [`order`], ranges, names |
//! | `Prefer` | [`prefer`] |
//! | `Accept`, `Content-Type` | [`media`] |
//! | body | [`payload`] |

pub mod cursor;
pub mod filter;
pub mod media;
pub mod operation;
pub mod order;
pub mod path;
pub mod payload;
pub mod prefer;
pub mod query;
pub mod range;
pub mod select;

#[cfg(test)]
mod fuzz;
