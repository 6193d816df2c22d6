//! fabric-agent
