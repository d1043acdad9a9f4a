//! Routing under concurrency, and the worker, on real databases.

mod connections;
pub mod desk;
mod duties;
mod files;
mod model;
mod routing;
mod run;
