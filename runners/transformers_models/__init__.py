"""What families share: models of the transformers library, chat templates, Qwen's images."""
