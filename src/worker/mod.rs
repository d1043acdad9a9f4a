//! What has no request to ride on: time, queues, clean-up.
