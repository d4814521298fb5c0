//! Prom
