//! Routing under concurrency, and the worker, on real databases.

mod connections;
mod desk;
mod duties;
mod files;
mod routing;
mod run;
