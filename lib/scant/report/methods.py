"""What the report says about methods and limits, with the numbers of this run in it."""

from __future__ import annotations

from typing import Any

import polars as pl

from scant.report.tables import format_number

REFERENCES = (
    "Zhang et al., arXiv:2604.07271: the source of the approach (low-dose movie, simulated annealing, dose threshold).",
    "K. Dabov, A. Foi, V. Katkovnik, K. Egiazarian, Image denoising by sparse 3-D transform-domain collaborative filtering, "
    "IEEE Trans. Image Process. 16, 2080 (2007).",
    "J. Madsen, T. Susi, The abTEM code: transmission electron microscopy from first principles, Open Res. Europe 1, 24 (2021).",
    "I. Lobato, D. Van Dyck, An accurate parameterization for scattering factors, Acta Cryst. A 70, 636 (2014).",
    "J. H. Los and A. Fasolino, Intrinsic long-range bond-order potential for carbon, Phys. Rev. B 68, 024107 (2003).",
    "A. P. Thompson et al., LAMMPS: a flexible simulation tool for particle-based materials modeling, "
    "Comput. Phys. Commun. 271, 108171 (2022).",
    "A. Vehtari et al., Rank-normalization, folding, and localization: an improved R-hat, Bayesian Anal. 16, 667 (2021).",
    "M. L. Falk, J. S. Langer, Dynamics of viscoplastic deformation in amorphous solids, Phys. Rev. E 57, 7192 (1998).",
    "A. Fasolino, J. H. Los, M. I. Katsnelson, Intrinsic ripples in graphene, Nat. Mater. 6, 858 (2007).",
    "R. C. Haddon, pi-Electrons in three dimensions, Acc. Chem. Res. 21, 243 (1988).",
    "V. M. Pereira, A. H. Castro Neto, N. M. R. Peres, Tight-binding approach to uniaxial strain in graphene, "
    "Phys. Rev. B 80, 045401 (2009).",
    "M. A. H. Vozmediano, M. I. Katsnelson, F. Guinea, Gauge fields in graphene, Phys. Rep. 496, 109 (2010).",
    "N. Papior, sisl, doi:10.5281/zenodo.597181: the tight-binding library.",
)


POTENTIALS = {"lcbop": "LCBOP", "tersoff": "Tersoff", "rebo": "REBO", "airebo": "AIREBO"}


def potential_name(key: str) -> str:
    """A potential as papers write it."""
    return POTENTIALS.get(key, key)


def methods_paragraphs(heights: bool, has_md: bool, has_dose: bool, has_electrons: bool, linked: bool) -> tuple[str, ...]:
    """The methods, leaving out what was not done."""
    text = [
        "The approach is that of [1]. Raw counts were corrected for offset, gain and bad pixels; bad pixels carry no weight. "
        "Denoised and averaged images [2] serve detection, the search for the basin and pictures only, never the likelihood.",
    ]
    if heights:
        text.append(
            "Positions are estimated frame by frame under the energy E = −log likelihood(frame | structure, optics, detector) + "
            "U(structure) / kT, which has no free weights. The image model uses one complex scattering amplitude per atom [3, 4] "
            "and each atom's height as its own defocus; U is the LCBOP potential [5] on the crystal's bonds, its "
            "lengths scaled to the crystal. Annealing by Metropolis-corrected Hamiltonian moves looks for the basin on the mean of the "
            "neighbouring frames and then samples the frame's own posterior, τ = 1: the estimate is the mean of its samples and σ "
            "their standard deviation, the chains' disagreement included; r̂ judges convergence [7]."
            + (
                " The ripples of the other frames of the averaging window enter the likelihood, mode by mode, as a Gaussian about what the "
                "frames share; their motion in between is raised to what the frame's own image asks for, so that a sheet whose ripples "
                "turn over is hardly linked."
                if linked
                else ""
            )
        )
    else:
        text.append("Positions are local fits to the columns in the plane of the image; no heights were sought.")
    text.append(
        "Strain is the least-squares deformation of each atom's first and second shell against the ideal lattice [8]; curvature comes "
        "from a quadric through the atoms within 4.5 Å, pyramidalisation from the π-orbital axis vector [10]. "
        "The ripple spectrum sums over the atoms' posterior means, a lower bound at short waves [9]."
        if heights
        else "Strain is the least-squares deformation of each atom's first and second shell against the ideal lattice [8]."
    )
    if has_electrons:
        text.append(
            "π bands: one orbital per carbon atom along its π-orbital axis vector [10], hoppings of −2.7 eV in flat graphene that fall "
            "off as exp(−3.37 (L / 1.42 Å − 1)) with the bond length [11] and turn with the axes, solved by sisl [13]. Bonds lost at the "
            "rim go on as a wide band. The pseudo-magnetic field is the curl of the strain's vector potential [12], over 5 Å."
        )
    if has_md:
        text.append("Each structure was judged independently by molecular dynamics in LAMMPS [6].")
    if has_dose:
        text.append(
            "The dose threshold is the highest crossing of the median 3D RMSD with the criterion; its interval bootstraps the twins."
        )
    return tuple(text)


def limits(frames: pl.DataFrame, calibration: dict[str, Any], heights: bool) -> tuple[str, ...]:
    """What a reader must not conclude from this run."""
    found = []
    if not heights:
        found.append(
            "Two-dimensional report: heights, their uncertainty, curvature, ripples and the out-of-plane strain are missing. They need "
            "voltage_kV, cs_um and defocus_angstrom in acquisition.yaml, and a material with an interatomic prior."
        )
    found += [f"{line[:1].upper()}{line[1:]}." for line in calibration.get("missing", ())]
    failed_gates = [str(gate.get("name")) for gate in calibration.get("gates", ()) if not gate.get("passed")]
    if failed_gates:
        found.append(f"Quality gates failed: {', '.join(failed_gates)}. Numbers that depend on them need care.")
    if "converged" in frames.columns:
        open_frames = frames.filter(pl.col("converged") == False).height  # noqa: E712 - null is neither
        if open_frames:
            found.append(f"Frames that did not converge: {format_number(open_frames)}. They are kept out of the headline numbers.")
    if heights:
        found.append(
            "σ is given per atom. Errors of neighbours are correlated through the soft bending modes of the sheet, so the bias "
            "correction of bond lengths, made for independent errors, is an upper bound."
        )
        found.append("The prior's own error is not part of σ; it shows where rms error / σ against a known truth exceeds 1.")
        found.append("π bands hold bonded neighbours alone: no σ bands, no interaction between electrons, no support.")
        found.append("Heights are relative to the mean of each frame's atoms, tilt included: the mean height cannot be told from defocus.")
    return tuple(found)
