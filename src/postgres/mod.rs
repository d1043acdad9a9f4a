//! A Postgres of our own: found on the machine, kept in a folder of ours, and gone when we are.
//!
//! - [`server`]: start and stop
//! - [`find`]: where PostgreSQL's programs are
//! - `owner`: which account runs it, as Postgres refuses to be root
//! - `cluster`: its data, settings and socket
//! - `process`: the running program
//!
//! It knows nothing of the product: it hands out a socket.

mod cluster;
pub mod error;
pub mod find;
mod owner;
mod process;
pub mod server;

pub use error::Error;
pub use server::{Durability, Server, Settings};
