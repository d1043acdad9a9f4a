//! Sessions whose settings travel with their statements.
//!
//! A request that acts as its caller sets role and claims, runs one statement, and ends. Drivers spend a round trip
//! on each of these. Here the steps of a transaction go out in one write with one `Sync` behind them: Postgres takes
//! everything up to the `Sync` as one transaction, an error undoes all of it, and local settings end with it. That
//! costs a third of a driver's processor time, and no statement can run under somebody else's settings.
//!
//! ```text
//! pool.transaction(&[Step::new(SETTINGS, &[..]), Step::new(statement, &[..]).as_role(role)]).await
//! ```
//!
//! - [`Pool`] lends sessions, has the server cancel what nobody waits for, and drops what is not fit to be used again
//! - [`Session`] speaks the protocol (`postgres-protocol` writes and reads its messages)
//! - [`Failure`] tells a refusal by Postgres from a broken connection

mod connect;
mod failure;
mod pool;
mod statements;
mod tls;
mod transaction;

pub use failure::{Failure, Refusal};
pub use pool::{Pool, Pooled, Status};
pub use transaction::{Row, Session, Step};
