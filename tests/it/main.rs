//! Behaviour against real servers, one module per subject.

mod postgres_schema;
