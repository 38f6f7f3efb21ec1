"""Where artifacts are: transport only. A folder such as ``registry/``, or an endpoint that speaks the Hugging Face protocol."""
