//! Routing under concurrency, and the worker, on real databases.

mod connections;
mod desk;
mod duties;
mod routing;
mod run;
