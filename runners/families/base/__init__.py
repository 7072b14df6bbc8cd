"""What several families share: the transformers library, chat templates, Qwen's images."""
