# A module for NixOS:
#
#   imports = [ ./module.nix ];
#   services.knockd = {
#     enable = true;
#     package = pkgs.callPackage ./package.nix { };
#     configFile = "/etc/secrets/knockd.conf";
#   };
#
# The store can be read by everybody, so a sequence or a key must not get there:
# configFile is a path on the host, outside the store. What is no secret may be
# given as text in settings, and include the rest.
{ config, lib, pkgs, ... }:

let
  cfg = config.services.knockd;
  file =
    if cfg.configFile != null then cfg.configFile
    else builtins.toFile "knockd.conf" cfg.settings;
in
{
  options.services.knockd = {
    enable = lib.mkEnableOption "knockd, a port-knock server";

    package = lib.mkOption {
      type = lib.types.package;
      description = "The package that has sbin/knockd.";
    };

    configFile = lib.mkOption {
      type = lib.types.nullOr lib.types.str;
      default = null;
      example = "/etc/secrets/knockd.conf";
      description = "knockd.conf on the host, outside the store, mode 0600.";
    };

    settings = lib.mkOption {
      type = lib.types.lines;
      default = "";
      example = ''
        [options]
          UseSyslog
          Include = /etc/secrets/knockd.d/*.conf
      '';
      description = ''
        knockd.conf as text, in the store, where everybody can read it. Put
        sequences into files that it includes.
      '';
    };

    extraArgs = lib.mkOption {
      type = lib.types.listOf lib.types.str;
      default = [ ];
      example = [ "-i" "eth0" ];
      description = "More options of the command line.";
    };

    path = lib.mkOption {
      type = lib.types.listOf lib.types.package;
      default = [ ];
      description = "Packages whose programs the doors' commands name, as iptables.";
    };
  };

  config = lib.mkIf cfg.enable {
    assertions = [
      {
        assertion = (cfg.configFile != null) != (cfg.settings != "");
        message = "services.knockd needs one of configFile and settings.";
      }
      {
        assertion = cfg.configFile == null
          || !lib.hasPrefix builtins.storeDir cfg.configFile;
        message = "services.knockd.configFile must not be in the store: everybody can read it there.";
      }
    ];

    environment.systemPackages = [ cfg.package ];

    systemd.services.knockd = {
      description = "Port-Knock Daemon";
      documentation = [ "man:knockd(8)" "man:knockd.conf(5)" ];
      after = [ "network.target" "nftables.service" "firewall.service" ];
      wantedBy = [ "multi-user.target" ];
      # An interface that does not exist yet ends the daemon: try for ever.
      unitConfig.StartLimitIntervalSec = 0;
      path = cfg.path;
      serviceConfig = {
        Type = "notify";
        ExecStart = lib.escapeShellArgs
          ([ "${cfg.package}/sbin/knockd" "-c" file ] ++ cfg.extraArgs);
        ExecReload = "${pkgs.coreutils}/bin/kill -HUP $MAINPID";
        # The stop commands of open doors run when the daemon gets SIGTERM.
        KillMode = "mixed";
        Restart = "on-failure";
        RestartSec = 10;
        StateDirectory = "knockd";
        StateDirectoryMode = "0700";
      };
    };
  };
}
