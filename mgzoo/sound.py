"""Names that this module had before, for one release. Import them from where they are now.

    mgzoo.media.audio         SILENT, downmix, mono, resample, checked (validate_audio), cut (slice_padded)
    mgzoo.media.decode        read (read_audio)
    mgzoo.media.spectrogram   mel_filters, spectrum (stft_magnitude), mel (mel_spectrogram), spectrogram (draw_spectrogram)

Distances and the codec's round trip went to the plugin mgzoo-autoencoders (`mgzoo_autoencoders.audio_losses`, `codec_round_trip` in
`mgzoo_autoencoders.dacvae_codec`), loudness to mgzoo-audio (`mgzoo_audio.loudness`).
"""

import warnings

from mgzoo.media.audio import SILENT, downmix, mono, resample  # noqa: F401
from mgzoo.media.audio import slice_padded as cut  # noqa: F401
from mgzoo.media.audio import validate_audio as checked  # noqa: F401
from mgzoo.media.decode import read_audio as read  # noqa: F401
from mgzoo.media.spectrogram import draw_spectrogram as spectrogram  # noqa: F401
from mgzoo.media.spectrogram import mel_filters  # noqa: F401
from mgzoo.media.spectrogram import mel_spectrogram as mel  # noqa: F401
from mgzoo.media.spectrogram import stft_magnitude as spectrum  # noqa: F401

warnings.warn("mgzoo.sound is now mgzoo.media.audio and mgzoo.media.spectrogram", DeprecationWarning, stacklevel=2)
