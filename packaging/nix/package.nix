# callPackage ./package.nix { }
{ lib, stdenv, fetchurl }:

stdenv.mkDerivation rec {
  pname = "knockd";
  version = "@VERSION@";

  src = fetchurl {
    url = "@HOMEPAGE@/releases/download/v${version}/knockd-${version}.tar.gz";
    sha256 = "@SHA256@";
  };

  makeFlags = [
    "STATIC=0"
    "PREFIX=${placeholder "out"}"
    # knockd.conf is the module's.
    "SYSCONFDIR=${placeholder "out"}/share/doc/knockd"
    "INIT=none"
  ];
  doCheck = true;
  checkTarget = "check";

  meta = {
    description = "Port-knock server and client";
    homepage = "@HOMEPAGE@";
    license = lib.licenses.isc;
    platforms = lib.platforms.linux;
    mainProgram = "knock";
  };
}
