"""What this plugin declares."""

from mgzoo.hooks import hookimpl
from mgzoo.spec import Component


@hookimpl
def mgzoo_components():
    return [
        Component(
            id="autoencoders.tae.v1", kind="autoencoder",
            config="mgzoo_autoencoders.configs:TaeConfig", target="mgzoo_autoencoders.tae:Tae",
            summary="Movie Gen's temporal autoencoder, 2.5-D, 8x8x8, 16 channels",
        ),
        Component(
            id="autoencoders.framewise.v1", kind="autoencoder",
            config="mgzoo_autoencoders.configs:FramewiseConfig", target="mgzoo_autoencoders.tae:Tae",
            summary="image autoencoder applied to every frame, 1x8x8, 16 channels",
        ),
        Component(
            id="autoencoders.reconstruct.v1", kind="task",
            config="mgzoo_autoencoders.configs:ReconstructConfig", target="mgzoo_autoencoders.reconstruct:Reconstruct",
            summary="train an autoencoder; pass a video through one",
        ),
        Component(
            id="autoencoders.dacvae.v1", kind="autoencoder",
            config="mgzoo_autoencoders.dacvae_configs:DacVaeConfig", target="mgzoo_autoencoders.dacvae:DacVae",
            summary="Movie Gen Audio's autoencoder of sound, 48 kHz mono, 25 latents a second, 128 channels",
        ),
        Component(
            id="autoencoders.codec.v1", kind="task",
            config="mgzoo_autoencoders.dacvae_configs:CodecConfig", target="mgzoo_autoencoders.dacvae_codec:Codec",
            summary="train a sound autoencoder; pass a sound through one",
        ),
    ]
